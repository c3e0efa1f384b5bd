"""Make secrets and texts around them at run time, from the formats that providers publish; the same for the same seed.

Nothing here is or ever was a credential: every secret is drawn from a seeded generator, so none stands in this file.
"""

from __future__ import annotations

import base64
import re
import string
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

_ALPHABETS: Mapping[str, str] = {
    "A": string.ascii_letters + string.digits,
    "B": string.ascii_letters + string.digits + "+/",
    "D": string.digits,
    "H": string.digits + "abcdef",
    "L": string.ascii_lowercase + string.digits,
    "P": string.ascii_letters + string.digits + "!#%*+=?^~-",
    "R": string.ascii_uppercase + "234567",
    "U": string.ascii_uppercase + string.digits,
    "W": string.ascii_letters + string.digits + "_-",
    "a": string.ascii_letters,
}
_PART = re.compile(r"\{([A-Za-z])([0-9]+)\}")

FORMATS: Mapping[str, str] = {
    "github-classic": "ghp_{A36}",
    "github-fine-grained": "github_pat_{A22}_{A59}",
    "github-oauth": "gho_{A36}",
    "github-user": "ghu_{A36}",
    "github-server": "ghs_{A36}",
    "github-refresh": "ghr_{A76}",
    "copilot": "tid={H32};exp=17{D8};sku=plus_monthly;proxy-ep=proxy.example.com;st=dotcom;chat=1;8kp=1:{H64}",
    "gitlab": "glpat-{A20}",
    "gitlab-routable": "glpat-{A27}.01.{L9}",
    "gitlab-deploy": "gldt-{A20}",
    "gitlab-runner": "glrt-{A20}",
    "gitlab-trigger": "glptt-{H40}",
    "bitbucket": "ATBB{A32}",
    "atlassian": "ATATT3xFfGF0{A172}={U8}",
    "aws-access-key-id": "AKIA{R16}",
    "aws-temporary-key-id": "ASIA{R16}",
    "aws-secret": "aws_secret_access_key = |{B40}|",
    "aws-secret-camel": "SecretAccessKey: |{B40}|",
    "aws-session-token": "IQoJb3JpZ2luX2Vj{B260}==".replace("_", "A"),
    "google-api-key": "AIza{W35}",
    "google-client-secret": "GOCSPX-{A28}",
    "google-access-token": "ya29.a0{A160}",
    "google-refresh-token": "1//0{W60}",
    "azure-storage": "DefaultEndpointsProtocol=https;AccountName=build;AccountKey=|{B86}==|;EndpointSuffix=example.net",
    "azure-cosmos": "AccountEndpoint=https://build.documents.azure.com:443/;AccountKey=|{B86}==|;",
    "azure-service-bus": "Endpoint=sb://build.servicebus.windows.net/;SharedAccessKeyName=root;SharedAccessKey=|{B43}=|",
    "azure-sas": "https://build.blob.core.windows.net/c/f?sv=2024-11-04&se=2030-01-01&sr=b&sp=r&sig=|{A41}%2B{A5}%3D|",
    "azure-client-secret": "{A3}8Q~{A34}",
    "azure-devops": "{A76}AZDO{A4}",
    "sql-connection": "Server=tcp:db.example.net,1433;Database=app;User ID=svc;Password=|{P18}|;Encrypt=True",
    "openai-project": "sk-proj-{A74}T3BlbkFJ{A74}",
    "openai-classic": "sk-{A20}T3BlbkFJ{A20}",
    "anthropic": "sk-ant-api03-{A93}AA",
    "openrouter": "sk-or-v1-{H64}",
    "huggingface": "hf_{a34}",
    "groq": "gsk_{A52}",
    "xai": "xai-{A80}",
    "perplexity": "pplx-{A48}",
    "replicate": "r8_{A37}",
    "nvidia": "nvapi-{A64}",
    "npm": "npm_{A36}",
    "pypi": "pypi-AgEIcHlwaS5vcmc{A150}",
    "rubygems": "rubygems_{H48}",
    "docker-hub": "dckr_pat_{A27}",
    "artifactory": "AKCp{A69}",
    "slack-bot": "xoxb-{D12}-{D12}-{A24}",
    "slack-user": "xoxp-{D12}-{D12}-{D12}-{H32}",
    "slack-app": "xapp-1-A{U10}-{D13}-{H64}",
    "slack-webhook": "https://hooks.slack.com/services/|T{U10}/B{U10}/{A24}|",
    "discord-webhook": "https://discord.com/api/webhooks/{D18}/|{A68}|",
    "sendgrid": "SG.{A22}.{A43}",
    "twilio-key": "SK{H32}",
    "twilio-account": "AC{H32}",
    "stripe-live": "sk_live_{A24}",
    "stripe-restricted": "rk_live_{A99}",
    "stripe-test": "sk_test_{A24}",
    "stripe-webhook": "whsec_{A32}",
    "shopify": "shpat_{H32}",
    "digitalocean": "dop_v1_{H64}",
    "databricks": "dapi{H32}",
    "vault": "hvs.{A90}",
    "terraform-cloud": "{A14}.atlasv1.{A67}",
    "grafana": "glsa_{A32}_{H8}",
    "postman": "PMAK-{H24}-{H34}",
    "linear": "lin_api_{A40}",
    "figma": "figd_{A40}",
    "doppler": "dp.pt.{A43}",
    "tailscale": "tskey-auth-k{A11}-{A32}",
    "newrelic": "NRAK-{U27}",
    "telegram": "{D10}:AA{A33}",
    "age": "AGE-SECRET-KEY-1{U58}",
    "jwt": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOi{A60}.{A43}",
    "bearer": "Authorization: Bearer |{A40}|",
    "database-url": "postgresql://service:|{A20}|@db.example.net:5432/app",
    "database-url-symbols": "mongodb+srv://service:|{P16}|@cluster0.example.net/app",
    "url-user": "https://deploy:|{A24}|@git.example.net/team/app.git",
}
"""Provider to format: {A36} is 36 letters and digits; where a part is between bars, that alone is the secret."""

_ASSIGNMENTS: Mapping[str, tuple[str, ...]] = {
    "password": (
        'password = "|{P16}|"\n',
        "DB_PASSWORD=|{L20}|\n",
        "export DB_PASSWORD='|{P20}|'\n",
        "spring:\n  datasource:\n    password: |{A18}|\n",
        '{"user": "svc", "password": "|{P14}|", "host": "db"}',
        "const dbPassword = `|{A20}|`;",
        "[database]\nuser = svc\npasswd = |{A16}|\nport = 5432\n",
        'config["password"] = "|{P16}|"',
        '"{\\"user\\": \\"svc\\", \\"password\\": \\"|{A20}|\\"}"',
        "<password>|{A20}|</password>",
        '<add key="Password" value="|{P16}|" />',
        "mysqldump --user svc --password |{A16}| app",
        "curl -u svc:|{A20}| https://api.example.com/v1",
    ),
    "secret": (
        'api_key = "|{A32}|"\n',
        "API_KEY=|{H40}|\n",
        "export AUTH_TOKEN=|{A40}|\n",
        "client_secret: |{A36}|\n",
        '{"clientSecret": "|{W40}|"}',
        'let token: String = "|{H32}|".into();',
        "secret_key => '|{A24}|',",
        'headers = {"X-Api-Key": "|{A32}|"}',
        "X-Api-Key: |{H32}|",
        '"{\\"access_token\\": \\"|{A48}|\\"}"',
        "signing_key := `|{B43}|=`",
        'os.environ["SERVICE_TOKEN"] = "|{A32}|"',
    ),
}

_AROUND: Mapping[str, tuple[str, ...]] = {
    "code": ('client = connect("%s")\n', "const value = '%s';\n", "let value = `%s`;\n"),
    "json": ('{"setting": "%s", "other": 1}',),
    "yaml": ("setting: %s\nother: 1\n", "- '%s'\n"),
    "shell": ("run %s && echo done\n", 'export SETTING="%s"\n', "SETTING=%s\n"),
    "url": ("https://api.example.com/v1/items?setting=%s&page=2",),
    "prose": (
        "Use %s. Then go on.",
        "The value (%s), as agreed.",
        "It is %s, and not another; see above.",
        "Take `%s` for it!",
        "It was [%s] before.",
        "Ends with %s",
        "**%s** is in bold",
        "first line\n%s\nlast line",
        "<b>%s</b>",
    ),
    "escaped": ('{"text": "{\\"setting\\": \\"%s\\"}"}', '{"text": "first line\\n%s\\nlast line"}'),
}
_URL_SAFE = re.compile(r"[A-Za-z0-9._~-]+")


@dataclass(frozen=True, slots=True)
class Sample:
    """A text with one secret in it, made after the format of `provider` and put into `form`."""

    provider: str
    form: str
    text: str
    secret: str


def secret(provider: str, random: Random) -> str:
    """Return a secret alone, without what has to stand before it."""
    return _drawn(FORMATS[provider], random)[1]


def samples(seed: int, repeat: int = 1) -> Iterator[Sample]:
    """Yield every provider's secrets in every form, `repeat` times with other secrets."""
    random = Random(seed)  # noqa: S311 - test data, the same for the same seed
    for _ in range(repeat):
        for provider, fmt in FORMATS.items():
            for form, frames in _AROUND.items():
                for frame in frames:
                    before, value, after = _drawn(fmt, random)
                    if form != "url" or _URL_SAFE.fullmatch(before + value + after):
                        yield Sample(provider, form, frame.replace("%s", before + value + after), value)
        for kind, templates in _ASSIGNMENTS.items():
            for template in templates:
                before, value, after = _drawn(template, random)
                yield Sample(kind, "assignment", before + value + after, value)
        pair = base64.b64encode(f"svc:{_drawn('{A20}', random)[1]}".encode()).decode()
        yield Sample("basic", "header", f"Authorization: Basic {pair}\r\nAccept: */*\r\n", pair)


def private_key(random: Random) -> str:
    """Return the text of a private key in PEM, with random bytes for a key."""
    body = base64.b64encode(random.randbytes(1200)).decode()
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    return f"-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----\n"


def _drawn(fmt: str, random: Random) -> tuple[str, str, str]:
    text = _PART.sub(lambda part: _word(_ALPHABETS[part[1]], int(part[2]), random), fmt)
    before, bar, rest = text.partition("|")
    if not bar:
        return "", text, ""
    value, _, after = rest.partition("|")
    return before, value, after


def _word(alphabet: str, length: int, random: Random) -> str:
    """Draw a word as generators of secrets do: with digits and both cases where the alphabet has them."""
    while True:
        word = "".join(random.choices(alphabet, k=length))
        kinds = [kind for kind in (str.isdigit, str.islower, str.isupper) if any(map(kind, alphabet))]
        if length < 12 or all(any(map(kind, word)) for kind in kinds):
            return word


# --- Texts without a secret ------------------------------------------------------------------------------------------


def _hex(length: int) -> Callable[[Random], str]:
    return lambda random: _word(_ALPHABETS["H"], length, random)


def _b64(length: int) -> Callable[[Random], str]:
    return lambda random: base64.b64encode(random.randbytes(length)).decode()


def _uuid(random: Random) -> str:
    return str(uuid.UUID(bytes=random.randbytes(16), version=4))


_HARMLESS: tuple[tuple[str, Callable[[Random], str]], ...] = (
    ("commit %s\n", _hex(40)),
    ("index %s..0000000 100644\n", _hex(7)),
    ("id: %s\n", _uuid),
    ('{"request_id": "%s", "trace": true}', _uuid),
    ('<img src="data:image/png;base64,%s">', _b64(900)),
    ('"integrity": "sha512-%s",', _b64(64)),
    ('"resolved": "https://registry.example.com/left-pad/-/left-pad-1.3.0.tgz#%s",', _hex(40)),
    ("    --hash=sha256:%s \\\n", _hex(64)),
    ("h1:%s=\n", _b64(31)),
    ("version = 1.%s.0-rc.1+build.7\n", lambda random: str(random.randrange(100))),
    ("color: #%s; background: #%s80;\n", _hex(6)),
    ("https://www.example.com/en/articles/2024/05/how-we-made-the-build-%s-times-faster.html\n", _hex(2)),
    ("https://cdn.example.com/static/js/main.%s.chunk.js\n", _hex(8)),
    ("FROM python:3.11-slim@sha256:%s\n", _hex(64)),
    ("uses: actions/checkout@%s # v4\n", _hex(40)),
    (
        'function(e,t,n){"use strict";var r=n(%s),o=r.token||e.secret;t.exports=function(e){return o(e.password)}}',
        _hex(4),
    ),
    ("const token = tokens[index + %s];\n", lambda random: str(random.randrange(100))),
    ("password = getpass.getpass('Password for user %s: ')\n", _hex(4)),
    ('password = os.environ["DB_PASSWORD_%s"]\n', lambda random: str(random.randrange(100))),
    ("DB_PASSWORD=${DB_PASSWORD_%s:-changeme}\n", lambda random: str(random.randrange(100))),
    ("api_key: <your-api-key-%s>\n", lambda random: str(random.randrange(100))),
    ("token: ${{ secrets.DEPLOY_TOKEN_%s }}\n", lambda random: str(random.randrange(100))),
    ('secret = "xxxxxxxxxxxxxxxxxxxxxxxx%s"\n', lambda random: str(random.randrange(10))),
    ("Authorization: Bearer <access-token-%s>\n", _hex(2)),
    ("postgresql://user:password@localhost:%s/app\n", lambda random: str(random.randrange(1024, 65536))),
    ("tokenizer = AutoTokenizer.from_pretrained('model-%s-instruct')\n", _hex(6)),
    ("publicKeyToken=%s, processorArchitecture=MSIL\n", _hex(16)),
    ("cache-key: linux-build-%s\n", _hex(64)),
    ("ssh-ed25519 %s build@example.com\n", _b64(51)),
    (".sk-fading-circle-%s .sk-circle-before { animation-delay: -0.9s }\n", lambda random: str(random.randrange(12))),
    ("the access key is AKIAIOSFODNN7EXAMPLE, as in the documentation (%s)\n", _hex(2)),
)


def harmless(seed: int, repeat: int = 1) -> Iterator[str]:
    """Yield texts that look like secrets and are none: hashes, identifiers, images, placeholders, code about tokens."""
    random = Random(seed)  # noqa: S311 - test data, the same for the same seed
    for _ in range(repeat):
        for frame, maker in _HARMLESS:
            yield frame.replace("%s", maker(random))
