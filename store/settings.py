"""The service's settings, from `ABDISTILL_*` environment variables; each has a default that works on one machine."""

from functools import cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL


class Settings(BaseSettings):
    """What API, worker and server must agree on. `ABDISTILL_PORT=9000` sets `port`, and so on."""

    model_config = SettingsConfigDict(env_prefix="ABDISTILL_")

    data_dir: Path = Field(
        default=Path(".abdistill"),
        description="Folder of everything that the service keeps on this machine. Made absolute at start.",
    )
    database_url: str = Field(
        default="",
        description="`sqlite:///path` or `postgresql://user:password@host/name`. Empty: `abdistill.db` in data_dir.",
    )
    broker_url: str | None = Field(
        default=None,
        description="`redis://host/0` or `redis+socket:///path`. None: `abdistill-server up` starts an embedded Valkey "
        "in data_dir; without any broker workers still find jobs, by polling.",
    )
    blobs_url: str = Field(
        default="",
        description="`file:///path`, or `s3://bucket/prefix?endpoint=https://host:port&region=name`, of which all but "
        "the bucket may be left out; credentials come from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or from "
        "the machine's role. Empty: the folder `blobs` in data_dir.",
    )
    blob_link_seconds: float = Field(
        default=300.0,
        ge=0,
        le=604800,
        description="A download of 1 MiB or more from S3 is led to S3 itself, by an address that holds for so long. "
        "0: never, where callers cannot reach S3.",
    )
    workspace_dir: Path = Field(
        default=Path("workspaces"),
        description="Folder of running jobs' files; inside data_dir unless absolute.",
    )
    host: str = Field(default="127.0.0.1", description="Address that the API listens on.")
    port: int = Field(default=8420, ge=0, le=65535, description="Port of the API; 0: any free one.")
    max_upload_bytes: int = Field(default=8 * 2**30, gt=0, description="Largest body of an upload, in bytes.")
    upload_part_bytes: int = Field(
        default=16 * 2**20,
        ge=2**16,
        le=2**30,
        description="Size of the parts of an upload, where its sender does not choose one.",
    )
    upload_keep_seconds: float = Field(
        default=7 * 86400.0,
        gt=0,
        description="An upload in parts that nobody sent to or used for so long is removed.",
    )
    import_from: str = Field(
        default="",
        description="Folders and buckets that teachers and datasets may be made from without an upload: "
        "`file:///path` and `s3://bucket/prefix?endpoint=https://host:port&region=name`, separated by commas. Whoever "
        "may submit may read all that lies there. Empty: none.",
    )
    worker_slots: int = Field(
        default=1, ge=1, le=64, description="Jobs that one worker runs at once; one a GPU."
    )
    slot_devices: int = Field(
        default=1,
        ge=1,
        le=64,
        description="GPUs of each slot: the most `devices` that a job may ask for there.",
    )
    warm_children: bool = Field(
        default=True,
        description="Whether the worker keeps a process of some 300 MB that has imported torch, and forks the "
        "processes of its jobs from it: each then starts in milliseconds instead of seconds.",
    )
    device: str = Field(default="auto", description="`cpu`, `cuda`, `cuda:N`, or `auto`: CUDA where it is.")
    lease_seconds: float = Field(
        default=60.0, gt=0, description="A job whose worker was silent for this long is taken back."
    )
    heartbeat_seconds: float = Field(
        default=10.0, gt=0, description="Time between two renewals of a lease; at most a third of it."
    )
    poll_seconds: float = Field(default=5.0, gt=0, description="How often an idle worker looks for a job.")
    sweep_seconds: float = Field(
        default=15.0,
        gt=0,
        description="Time between two searches for lost jobs, by whichever process comes first.",
    )
    janitor_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="Time between two searches for files that nobody needs, by whichever API process comes first.",
    )
    orphan_seconds: float = Field(
        default=86400.0,
        ge=3600,
        description="Age at which a file of the blob store that no row speaks of is removed: a process died between "
        "writing it and saying so.",
    )
    audit_days: float = Field(
        default=90.0, gt=0, description="How long the audit log keeps an entry, to within janitor_seconds."
    )
    max_crashes: int = Field(default=3, ge=1, description="A job ends as failed at this many crashes.")
    grace_seconds: float = Field(
        default=20.0, gt=0, description="Time that a child has to write a checkpoint when asked to stop."
    )

    stall_seconds: float = Field(
        default=600.0,
        gt=0,
        description="A training process that got no further for this long is asked where it hangs, and ended.",
    )

    input_cache_bytes: int = Field(
        default=16 * 2**30,
        ge=0,
        description="Teachers and datasets that a worker's machine keeps for later jobs.",
    )

    teacher_cache_bytes: int = Field(
        default=16 * 2**30,
        ge=0,
        description="What teachers said of images that come again, kept on a worker's machine: most for one job, "
        "and for all jobs together.",
    )
    share_answers: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Whether workers put what teachers said into the blob store, where other workers' jobs of the same "
        "project find it. `auto`: where blobs_url is a bucket. Workers of one machine share its folder anyway.",
    )
    shared_answers_days: float = Field(
        default=30.0,
        gt=0,
        description="What teachers said is removed from the blob store when no worker fetched it for so long, to "
        "within janitor_seconds.",
    )
    shared_answers_bytes: int = Field(
        default=64 * 2**30,
        ge=0,
        description="Most that teachers' answers take in the blob store, in all projects together; what was unused for "
        "longest goes first.",
    )
    request_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Time in which the head of a request, and then a JSON body, must be there; an upload must not "
        "pause for longer.",
    )
    cors_origins: str = Field(
        default="",
        description="Web pages that may use the API from a browser: origins like `https://lab.example`, separated by "
        "commas. Empty: none.",
    )
    key_requests: int = Field(
        default=12_000,
        ge=0,
        description="Most requests of a key in 60 s, at each process of the API; so many may come at once. "
        "0: any number.",
    )
    webhook_limit: int = Field(default=20, ge=0, description="Most webhooks that a project may have.")
    webhook_poll_seconds: float = Field(
        default=1.0, gt=0, description="How often the API looks for events that webhooks are to be told."
    )
    webhook_timeout_seconds: float = Field(
        default=20.0, gt=0, le=120, description="Time that a receiver has for its whole answer."
    )
    webhook_log_days: float = Field(
        default=30.0, gt=0, description="How long the log of what webhooks were told is kept."
    )
    webhook_allow_http: bool = Field(
        default=False, description="Whether webhooks may be `http://` too, which anyone on the way can read."
    )
    webhook_allow_private: bool = Field(
        default=False,
        description="Whether webhooks may lead to loopback and private networks. Whoever may make a webhook can then "
        "knock at all that these processes can reach.",
    )

    @model_validator(mode="after")
    def _fill_in(self) -> Self:
        self.data_dir = self.data_dir.expanduser().absolute()
        if not self.database_url:
            url = URL.create("sqlite", database=str(self.data_dir / "abdistill.db"))
            self.database_url = url.render_as_string(hide_password=False)
        self.blobs_url = self.blobs_url or (self.data_dir / "blobs").as_uri()
        self.workspace_dir = self.data_dir / self.workspace_dir.expanduser()
        return self

    @model_validator(mode="after")
    def _heartbeat_fits_the_lease(self) -> Self:
        if self.heartbeat_seconds * 3 > self.lease_seconds:
            raise ValueError(
                f"heartbeat_seconds is {self.heartbeat_seconds:g} and lease_seconds {self.lease_seconds:g}: a lease "
                f"must outlive two lost heartbeats; set heartbeat_seconds to at most {self.lease_seconds / 3:g}"
            )
        return self

    @property
    def shares_answers(self) -> bool:
        """Whether workers share teachers' answers through the blob store."""
        return self.share_answers == "on" or (
            self.share_answers == "auto" and self.blobs_url.startswith("s3:")
        )

    @property
    def abandon_seconds(self) -> float:
        """Age of the last good renewal at which a worker kills its own child: well before anyone else may start one."""
        return 0.75 * self.lease_seconds


@cache
def get_settings() -> Settings:
    """Return this process's settings, read from the environment once."""
    return Settings()
