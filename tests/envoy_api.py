"""Envoy's API, typed: the oracle for what we write of it by hand (`envoy-data-plane`, not used by the service)."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # Its classes are built with a pydantic feature that is going away, which is no business of ours.
    warnings.simplefilter("ignore", DeprecationWarning)
    from envoy_data_plane.envoy.config.core import v3 as core
    from envoy_data_plane.envoy.data.accesslog import v3 as log_data
    from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as filters
    from envoy_data_plane.envoy.service.accesslog import v3 as log_service
    from envoy_data_plane.envoy.service.ext_proc import v3 as ext_proc
    from envoy_data_plane.envoy.type import v3 as types
    from envoy_data_plane.google.protobuf import Any, StringValue, Struct, Value

__all__ = ["Any", "StringValue", "Struct", "Value", "core", "ext_proc", "filters", "log_data", "log_service", "types"]
