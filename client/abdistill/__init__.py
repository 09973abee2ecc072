"""Python client for abdistill, a service that distils networks by their activation boundaries."""

from abdistill import webhooks
from abdistill.client import Client
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
    RateLimited,
    Rejected,
    ServerError,
    Timeout,
    Unauthorized,
)
from abdistill.jobs import Update
from abdistill.models import Artifact, Dataset, Delivery, Event, Job, Metric, Page, Teacher, Webhook

__all__ = [
    "AbdistillError",
    "ApiError",
    "Artifact",
    "Client",
    "ConfigurationError",
    "Conflict",
    "ConnectionFailed",
    "Dataset",
    "Delivery",
    "Event",
    "IntegrityError",
    "Invalid",
    "InvalidSignature",
    "Job",
    "JobCancelled",
    "JobFailed",
    "Metric",
    "NotFound",
    "Page",
    "RateLimited",
    "Rejected",
    "ServerError",
    "Teacher",
    "Timeout",
    "Unauthorized",
    "Update",
    "Webhook",
    "webhooks",
]
