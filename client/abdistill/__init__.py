"""Python client for abdistill, a service that distils networks by their activation boundaries."""

from abdistill import webhooks
from abdistill.audit import AuditEntry
from abdistill.client import Client
from abdistill.comparisons import ComparedJob, Comparison, Sweep
from abdistill.errors import (
    AbdistillError,
    ApiError,
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    IntegrityError,
    Invalid,
    InvalidSignature,
    JobCancelled,
    JobFailed,
    NotFound,
    QuotaExceeded,
    RateLimited,
    Rejected,
    ServerError,
    Timeout,
    Unauthorized,
)
from abdistill.hooks import Delivery, Webhook
from abdistill.keys import Key
from abdistill.models import (
    Artifact,
    Dataset,
    Evaluation,
    Event,
    Job,
    LogPart,
    Metric,
    Page,
    Teacher,
    Usage,
    Waiting,
)
from abdistill.news import Update
from abdistill.predictions import PredictedClass, Prediction, Predictions

__all__ = [
    "AbdistillError",
    "ApiError",
    "Artifact",
    "AuditEntry",
    "Client",
    "ComparedJob",
    "Comparison",
    "ConfigurationError",
    "Conflict",
    "ConnectionFailed",
    "Dataset",
    "Delivery",
    "Evaluation",
    "Event",
    "IntegrityError",
    "Invalid",
    "InvalidSignature",
    "Job",
    "JobCancelled",
    "JobFailed",
    "Key",
    "LogPart",
    "Metric",
    "NotFound",
    "Page",
    "PredictedClass",
    "Prediction",
    "Predictions",
    "QuotaExceeded",
    "RateLimited",
    "Rejected",
    "ServerError",
    "Sweep",
    "Teacher",
    "Timeout",
    "Unauthorized",
    "Update",
    "Usage",
    "Waiting",
    "Webhook",
    "webhooks",
]
