"""Which rules of the engine are not used, and why: text is masked while it streams, and clean code must pass.

Rules that want a second secret elsewhere in the text are left out by the detector itself, and so are those that a rule
of ours of the same id replaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_FAR = "reads more than is kept of a stream: "
_NOT_ONE_RUN = "its secret has blanks or quotes in it: "
_WIDE = "takes text by its characters alone: "

SWITCHED_OFF: Final[Mapping[str, str]] = {
    "curl-auth-header": _FAR + "our bearer-token, basic-credentials and secret take the value itself",
    "curl-auth-user": _FAR + "our curl-user takes the password after -u",
    "gcp-application-default-credentials": _FAR + "our secret and google-oauth-* take the values inside",
    "gcp-service-account": _FAR + "private keys are masked from their BEGIN line on",
    "kubernetes-secret-yaml": _FAR + "our password and secret rules take the values by their names",
    "private-key": _FAR + "private keys are masked from their BEGIN line on",
    "amplitude-secret-key": _FAR + "gaps that may hold line ends; our secret takes assignments",
    "influxdb-api-token": _FAR + "gaps that may hold line ends; our secret takes assignments",
    "gitlab-incoming-mail-address-token": "needs the text that follows the secret",
    "microsoft-teams-webhook": "takes an address of 250 characters; our teams-webhook-url takes the key in it",
    "generic-credential-uri": "takes the whole URL and what follows it; our url-password takes the password alone",
    "mongodb-connection-string": "takes the whole URL; our url-password takes the password alone",
    "bitbucketcredentials": "takes the whole URL; our url-password takes the password alone",
    "codecatalystcredentials": "takes the whole URL; our url-password takes the password alone",
    "codecommitcredentials": "takes the whole URL; our url-password takes the password alone",
    "azure-servicebus-connection-string": "takes the whole string; our azure-shared-access-key takes the key alone",
    "azure-app-configuration-connection-string": "takes what follows the address; our connection-string-password does",
    "canadian-digital-service-notify-api-key": _NOT_ONE_RUN + "our secret takes assignments of it",
    "hashicorp-tf-password": _NOT_ONE_RUN + "our password takes what lies between the quotes",
    "nuget-config-password": _NOT_ONE_RUN + "our password-attribute takes the value",
    "freemius-secret-key": _NOT_ONE_RUN + "our secret takes the value",
    "zai-api-key": _WIDE + "32 hex digits, a dot and 16 letters are file names of build tools too",
    "voyageai-api-key": _WIDE + "pa- or al- and 43 characters are CSS classes too",
    "kimi-api-key": _WIDE + "sk- and 48 characters, dashes among them, are CSS classes too",
    "hashicorp-tf-api-token": "our terraform-cloud-token is the same with a boundary",
}
"""Rule ids without their family, each with the reason."""
