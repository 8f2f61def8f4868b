"""The parts that we use of kinds which operators bring, after their reference documents.

KEDA 2.12 and newer: keda.sh/docs, "ScaledObject specification" and "Prometheus" scaler.
Prometheus Operator, monitoring.coreos.com/v1: "API reference", PodMonitorSpec.
"""

from typing import Any


def _exactly(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


_TEXT = {"type": "string", "minLength": 1}
_COUNT = {"type": "integer", "minimum": 0}
_DURATION = {"type": "string", "pattern": r"^\d+(ms|s|m|h)$"}
_LABELS = {"type": "object", "additionalProperties": _TEXT}
_EXPRESSION = _exactly(
    {"key": _TEXT, "operator": {"enum": ["In", "NotIn", "Exists", "DoesNotExist"]}},
    {"values": {"type": "array", "items": _TEXT}},
)
_SELECTOR = _exactly(
    {}, {"matchLabels": _LABELS, "matchExpressions": {"type": "array", "items": _EXPRESSION}}
)
_RULES = _exactly(
    {},
    {
        "stabilizationWindowSeconds": {"type": "integer", "minimum": 0, "maximum": 3600},
        "selectPolicy": {"enum": ["Max", "Min", "Disabled"]},
        "policies": {
            "type": "array",
            "items": _exactly(
                {
                    "type": {"enum": ["Pods", "Percent"]},
                    "value": {"type": "integer", "minimum": 1},
                    "periodSeconds": {"type": "integer", "minimum": 1, "maximum": 1800},
                }
            ),
        },
    },
)
_NUMBER_AS_TEXT = {"type": "string", "pattern": r"^\d+(\.\d+)?$"}
_PROMETHEUS_TRIGGER = _exactly(
    {
        "type": {"const": "prometheus"},
        "metadata": _exactly(
            {
                "serverAddress": {"type": "string", "pattern": "^https?://"},
                "query": _TEXT,
                "threshold": _NUMBER_AS_TEXT,
            },
            {
                "activationThreshold": _NUMBER_AS_TEXT,
                "namespace": _TEXT,
                "ignoreNullValues": {"enum": ["true", "false"]},
                "unsafeSsl": {"enum": ["true", "false"]},
                "customHeaders": _TEXT,
                "authModes": _TEXT,
            },
        ),
    },
    {
        "name": _TEXT,
        "metricType": {"enum": ["AverageValue", "Value"]},
        "useCachedMetrics": {"type": "boolean"},
        "authenticationRef": {"type": "object"},
    },
)


def _manifest(api_version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return _exactly(
        {
            "apiVersion": {"const": api_version},
            "kind": {"const": kind},
            "metadata": _exactly({"name": _TEXT}, {"labels": _LABELS, "annotations": _LABELS}),
            "spec": spec,
        }
    )


SCHEMAS = {
    "ScaledObject": _manifest(
        "keda.sh/v1alpha1",
        "ScaledObject",
        _exactly(
            {
                "scaleTargetRef": _exactly(
                    {"name": _TEXT},
                    {"apiVersion": _TEXT, "kind": _TEXT, "envSourceContainerName": _TEXT},
                ),
                "triggers": {"type": "array", "minItems": 1, "items": _PROMETHEUS_TRIGGER},
            },
            {
                "pollingInterval": _COUNT,
                "cooldownPeriod": _COUNT,
                "initialCooldownPeriod": _COUNT,
                "idleReplicaCount": _COUNT,
                "minReplicaCount": _COUNT,
                "maxReplicaCount": _COUNT,
                "fallback": _exactly({"failureThreshold": _COUNT, "replicas": _COUNT}),
                "advanced": _exactly(
                    {},
                    {
                        "restoreToOriginalReplicaCount": {"type": "boolean"},
                        "horizontalPodAutoscalerConfig": _exactly(
                            {},
                            {
                                "name": _TEXT,
                                "behavior": _exactly({}, {"scaleUp": _RULES, "scaleDown": _RULES}),
                            },
                        ),
                    },
                ),
            },
        ),
    ),
    "PodMonitor": _manifest(
        "monitoring.coreos.com/v1",
        "PodMonitor",
        _exactly(
            {
                "selector": _SELECTOR,
                "podMetricsEndpoints": {
                    "type": "array",
                    "minItems": 1,
                    "items": _exactly(
                        {"port": _TEXT},
                        {
                            "path": {"type": "string", "pattern": "^/"},
                            "scheme": {"enum": ["http", "https"]},
                            "interval": _DURATION,
                            "scrapeTimeout": _DURATION,
                            "honorLabels": {"type": "boolean"},
                        },
                    ),
                },
            },
            {
                "jobLabel": _TEXT,
                "podTargetLabels": {"type": "array", "items": _TEXT},
                "namespaceSelector": _exactly(
                    {},
                    {"any": {"type": "boolean"}, "matchNames": {"type": "array", "items": _TEXT}},
                ),
            },
        ),
    ),
}
