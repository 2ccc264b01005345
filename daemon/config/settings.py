"""Settings: every key, its default, its check and its documentation.

A description here is also the comment in ``config.example.yaml`` and the text in
``docs/configuration.md`` (tests compare them).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import Field, ValidationInfo, field_serializer, field_validator

from daemon.aws.accounts import AccountAccess, Role
from daemon.aws.queue_names import QueueName, may_be_one_queue
from daemon.config.types import (
    AccountId,
    BaseUrl,
    ExternalId,
    KeyPattern,
    QueueUrl,
    Region,
    RoleArn,
    Section,
    TableName,
    TagKey,
    TagTemplate,
    Whole,
    Word,
    refused,
    secrets_in,
)
from daemon.redaction.keys import SECRET_KEYS
from daemon.targets.registry import DEFAULT_KIND, TARGET_KINDS
from daemon.training_job.tag_defaults import TagDefaults, Template
from daemon.training_job.tags import TagKeys

if TYPE_CHECKING:
    from daemon.targets.settings import TargetSettings

DAY_SECONDS = 86_400
LEAST_RECONCILE_SECONDS = 60

JobStatus = Literal["Completed", "Stopped", "Failed"]

if TYPE_CHECKING:
    _AnyTarget = TargetSettings
else:
    _AnyTarget = reduce(or_, (kind.settings for kind in TARGET_KINDS.values()))


class AwsSettings(Section):
    """The section ``aws``."""

    region: Region | None = Field(
        None,
        description="Region of the queue and of SageMaker. null: AWS_REGION, AWS_DEFAULT_REGION, "
        "the region of the AWS profile or the one in queue.url, in this order.",
    )
    account_id: AccountId | None = Field(
        None,
        description="Account whose training jobs are synced: 12 digits in quotes. It must be the "
        "account of the credentials, which STS is asked to confirm. null: looked up through STS; "
        "if STS does not answer, each job's ARN is compared with the one that DescribeTrainingJob "
        "returns.",
    )
    sqs_endpoint_url: BaseUrl | None = Field(
        None,
        description="SQS endpoint URL, for VPC endpoints and tests. null: the region's public "
        "endpoint.",
    )
    sagemaker_endpoint_url: BaseUrl | None = Field(
        None,
        description="SageMaker endpoint URL, for VPC endpoints and tests. null: the region's "
        "public endpoint.",
    )
    sagemaker_metrics_endpoint_url: BaseUrl | None = Field(
        None,
        description="SageMaker Metrics endpoint URL, for VPC endpoints and tests; used only with "
        "jobs.metric_series. null: the region's public endpoint.",
    )
    sts_endpoint_url: BaseUrl | None = Field(
        None,
        description="STS endpoint URL, for VPC endpoints and tests. null: the region's public "
        "endpoint.",
    )


class AccountSettings(Section):
    """An entry of the list ``accounts``."""

    id: AccountId
    role_arn: RoleArn | None = None
    external_id: ExternalId | None = Field(None, repr=False)
    regions: tuple[Region, ...] = ()

    @field_validator("role_arn")
    @classmethod
    def _of_this_account(cls, value: str | None, info: ValidationInfo) -> str | None:
        account = info.data.get("id")
        if value is not None and account is not None and value.split(":")[4] != account:
            raise refused(f"must be a role of account {account}, like its id")
        return value

    @field_validator("external_id")
    @classmethod
    def _with_a_role(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("role_arn", value) is None:
            raise refused("goes with role_arn only")
        return value

    @field_validator("regions")
    @classmethod
    def _once_each(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise refused("must name each region once")
        return value

    @field_serializer("external_id")
    def _not_for_the_log(self, value: str | None) -> str | None:
        return None if value is None else "**********"

    def as_access(self) -> AccountAccess:
        """The same as plain data, for code that does not import the configuration."""
        role = None
        if self.role_arn is not None:
            role = Role(self.id, self.role_arn, self.external_id)
        return AccountAccess(self.id, role, self.regions)


class RetrySettings(Section):
    """The section ``queue.retry``."""

    initial_seconds: Whole = Field(
        10,
        ge=1,
        le=43_200,
        description="Delay after the first receive, in seconds (1 to 43200). Doubles with each "
        "receive.",
    )
    max_seconds: Whole = Field(
        900,
        ge=1,
        le=43_200,
        description="Maximum delay, in seconds (1 to 43200, at least initial_seconds). The "
        "queue's redrive policy limits the number of receives.",
    )

    @field_validator("max_seconds")
    @classmethod
    def _not_below_initial(cls, value: int, info: ValidationInfo) -> int:
        initial = info.data.get("initial_seconds")
        if initial is not None and value < initial:
            raise refused(f"must not be below queue.retry.initial_seconds, which is {initial}")
        return value


class QueueSettings(Section):
    """The section ``queue``."""

    url: QueueUrl = Field(
        description="URL of the standard SQS queue that the EventBridge rule sends to. Required. "
        "FIFO queues are not supported."
    )
    dead_letter_url: QueueUrl | None = Field(
        None,
        description="URL of the dead-letter queue for rejected messages. null: taken from the "
        "queue's redrive policy.",
    )
    pollers: Whole = Field(1, ge=1, le=10, description="Number of concurrent long polls (1 to 10).")
    wait_seconds: Whole = Field(
        20,
        ge=0,
        le=20,
        description="Wait time of one long poll, in seconds (0 to 20). Lower values mean more "
        "requests but faster shutdown, which waits for the current poll.",
    )
    max_in_flight: Whole = Field(
        64,
        ge=1,
        le=1000,
        description="Maximum number of messages in flight, from receive to acknowledgement (1 to "
        "1000). Those that wait for one of several accounts are not counted.",
    )
    visibility_seconds: Whole | None = Field(
        None,
        ge=30,
        le=43_200,
        description="Visibility timeout of received messages, in seconds (30 to 43200); extended "
        "while a message is in flight. After a crash, messages become visible again after this "
        "time. null: the queue's own.",
    )
    foreign_messages: Literal["skip", "leave"] = Field(
        "skip",
        description="Messages that are not about a training job. skip: deleted. leave: made "
        "visible again at once, for the other consumers of a shared queue; each receive counts "
        "towards the queue's redrive policy.",
    )
    retry: RetrySettings = Field(
        RetrySettings(), description="Exponential backoff, with jitter, of deferred messages."
    )

    @field_validator("dead_letter_url")
    @classmethod
    def _another_queue(cls, value: str | None, info: ValidationInfo) -> str | None:
        url = info.data.get("url")
        if value is not None and url is not None and may_be_one_queue(value, url):
            raise refused(
                "must not be queue.url itself: rejected messages would be received again and again"
            )
        return value


class TagKeySettings(Section):
    """The section ``jobs.tag_keys``."""

    sync: TagKey = Field(
        "MODEL_DB_SYNC",
        description="Only jobs with this tag are synced; the value of the tag does not matter.",
    )
    project_name: TagKey = Field(
        "MODEL_DB_PROJECT_NAME", description="Tag that holds the project name."
    )
    project_user: TagKey = Field(
        "MODEL_DB_PROJECT_USER", description="Tag that holds the user of the project."
    )
    project_description: TagKey = Field(
        "MODEL_DB_PROJECT_DESC", description="Tag that holds the description of the project."
    )
    model_name: TagKey = Field(
        "MODEL_DB_MODEL_NAME",
        description="Tag that holds the model name, which is also the name of the experiment.",
    )
    model_type: TagKey = Field("MODEL_DB_MODEL_TYPE", description="Tag that holds the model type.")

    @field_validator("*")
    @classmethod
    def _distinct(cls, value: str, info: ValidationInfo) -> str:
        for other, key in info.data.items():
            if key == value:
                raise refused(f"must differ from jobs.tag_keys.{other}")
        return value

    def as_tag_keys(self) -> TagKeys:
        """The same as plain data, for code that does not import the configuration."""
        return TagKeys(**self.model_dump())


class TagDefaultSettings(Section):
    """The section ``jobs.tag_defaults``."""

    project_name: TagTemplate | None = Field(None, description="Default of the project name.")
    project_user: TagTemplate | None = Field(
        None, description="Default of the user of the project."
    )
    project_description: TagTemplate | None = Field(
        None, description="Default of the description of the project."
    )
    model_name: TagTemplate | None = Field(None, description="Default of the model name.")
    model_type: TagTemplate | None = Field(None, description="Default of the model type.")

    def as_tag_defaults(self) -> TagDefaults:
        """The same as plain data, for code that does not import the configuration."""
        given = self.model_dump(exclude_none=True)
        return TagDefaults(**{name: Template.parse(text) for name, text in given.items()})


class JobSettings(Section):
    """The section ``jobs``."""

    statuses: tuple[JobStatus, ...] = Field(
        ("Completed",),
        min_length=1,
        description="Job statuses that are synced: any of Completed, Stopped, Failed.",
    )
    tag_keys: TagKeySettings = Field(
        TagKeySettings(),
        description="Keys of the six tags: 1 to 128 characters, all different, case-sensitive.",
    )
    tag_defaults: TagDefaultSettings = Field(
        TagDefaultSettings(),
        description="Values for jobs that have the sync tag and lack others; null: the tag is "
        "required. Text with placeholders: {tag:KEY} (another tag of the job), {job}, "
        "{tuning_job}, {pipeline}, {pipeline_step}, {experiment} (their names), {account}, "
        '{region}. {tag:team|tag:owner|"nobody"} is the first that the job has; {{ and }} are '
        "braces. A default whose placeholder has no value does not count.",
    )
    unknown_accounts: Literal["reject", "skip"] = Field(
        "reject",
        description="Jobs of accounts and regions that are neither the daemon's own nor in "
        "accounts. reject: their messages become dead letters (foreign_account). skip: they are "
        "deleted (unknown_account).",
    )
    metric_series: bool = Field(
        default=False,
        description="Whether the metrics of a job are written with their values over its "
        "iterations, not only with the last ones: one more AWS call a job (BatchGetMetrics). Needs "
        "a target that has a place for them: modeldb-v2 or mlflow.",
    )
    redact: tuple[KeyPattern, ...] = Field(
        SECRET_KEYS,
        description="Values of hyperparameters and tags whose key matches one of these patterns "
        '(wildcards * and ?) are replaced by "[redacted]"; the keys stay. Case and separators '
        "(- _ . space) do not matter. Common names and forms of secrets are always recognised, "
        "see docs/mapping.md. []: nothing is redacted in the target.",
    )

    @field_validator("statuses")
    @classmethod
    def _once_each(cls, value: tuple[JobStatus, ...]) -> tuple[JobStatus, ...]:
        if len(set(value)) != len(value):
            raise refused("must name each status once")
        return value


class ReconcileSettings(Section):
    """The section ``reconcile``."""

    every_seconds: Whole = Field(
        3600,
        ge=0,
        le=7 * DAY_SECONDS,
        description="How often the daemon looks for jobs whose event never came, in seconds (60 to "
        "604800); 0: never. One replica at a time does. It lists the training jobs, at most one "
        "request a second, and sends a message to the queue about each that it knows nothing of.",
    )
    look_back_seconds: Whole = Field(
        DAY_SECONDS,
        ge=60,
        le=365 * DAY_SECONDS,
        description="In seconds (60 to 31536000). While the checkpoint is younger than this, it "
        "may lack earlier jobs: a job that it does not know is looked up in the target before it "
        "is written. A job whose row has changed within this time is not sent to the queue.",
    )
    longest_job_seconds: Whole = Field(
        5 * DAY_SECONDS,
        ge=3600,
        le=365 * DAY_SECONDS,
        description="How far the first look for jobs without an event reaches back, by the time of "
        "their creation, in seconds (3600 to 31536000): at least as long as the longest job runs. "
        "Later ones begin where the last one ended.",
    )

    @field_validator("every_seconds")
    @classmethod
    def _not_all_the_time(cls, value: int) -> int:
        if 0 < value < LEAST_RECONCILE_SECONDS:
            raise refused("must be 0 (never) or from 60 to 604800")
        return value


_KEEP_DAYS = (
    "Retention of finished jobs, in days (1 to 36500, at least reconcile.look_back_seconds and, "
    "unless reconcile.every_seconds is 0, reconcile.longest_job_seconds)."
)


class SqliteSettings(Section):
    """The section ``checkpoint``: one SQLite file."""

    kind: Literal["sqlite"] = Field(
        "sqlite",
        description="Kind of checkpoint: sqlite, one file shared by the processes of one host; or "
        "dynamodb, one table shared by any number of hosts.",
    )
    path: Path = Field(
        Path("/var/lib/modeldb-sync/checkpoint.db"),
        description="Path of the file, on a persistent disk; never on a network file system.",
    )
    keep_days: Whole = Field(400, ge=1, le=36_500, description=_KEEP_DAYS)

    @field_validator("path")
    @classmethod
    def _a_file(cls, value: Path) -> Path:
        text = str(value)
        if (
            value.name in {"", ".."}
            or text.startswith((":memory:", "file:"))
            or not text.isprintable()
        ):
            raise refused("must be the path of a file: the checkpoint outlives the process")
        return value


class DynamoDbSettings(Section):
    """The section ``checkpoint``: one DynamoDB table."""

    kind: Literal["dynamodb"] = Field(
        "dynamodb",
        description="Kind of checkpoint: dynamodb, one table shared by any number of hosts, see "
        "docs/checkpoint-dynamodb.md.",
    )
    table: TableName = Field(
        description="Name of the table. `checkpoint create-table`, the CloudFormation template and "
        "the Terraform module make one."
    )
    region: Region | None = Field(
        None,
        description="Region of the table. null: aws.region, or the region in queue.url, or "
        "AWS_REGION, AWS_DEFAULT_REGION or the region of the AWS profile, in this order.",
    )
    endpoint_url: BaseUrl | None = Field(
        None,
        description="DynamoDB endpoint URL, for VPC endpoints and tests. null: the region's public "
        "endpoint.",
    )
    keep_days: Whole = Field(400, ge=1, le=36_500, description=_KEEP_DAYS)


CheckpointSettings: TypeAlias = SqliteSettings | DynamoDbSettings
"""The section ``checkpoint``."""


class HttpSettings(Section):
    """The section ``http``."""

    host: Word = Field(
        "0.0.0.0",  # noqa: S104 - Prometheus and the kubelet come from outside the container
        description="Address to listen on. 0.0.0.0: all IPv4 addresses of the machine.",
    )
    port: Whole = Field(
        9090,
        ge=0,
        le=65_535,
        description="Port of /metrics, /healthz and /readyz (0 to 65535). 0: any free port. In a "
        "container, keep host and port as they are, or set the port with MODELDB_SYNC_HTTP__PORT: "
        "the image's health check reads that variable.",
    )
    status_page: bool = Field(
        True,
        description="Whether the port also has the status page on / and its JSON form below /api. "
        "Like the rest of the port they have no login: everyone who can reach it sees names of "
        "jobs and projects.",
    )


class LogSettings(Section):
    """The section ``log``."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Minimum level that is logged: debug, info, warning, error."
    )
    format: Literal["json", "console"] | None = Field(
        None,
        description="json (one object per line) or console (easier to read). null: console on a "
        "terminal, otherwise json.",
    )

    @field_validator("level", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


class ShutdownSettings(Section):
    """The section ``shutdown``."""

    grace_seconds: Whole = Field(
        25,
        ge=5,
        le=3600,
        description="Maximum time from SIGTERM to exit, in seconds (5 to 3600, at least "
        "queue.wait_seconds + 5). Keep it below the container's stop timeout.",
    )


class Settings(Section):
    """The whole configuration."""

    aws: AwsSettings = Field(
        AwsSettings(),
        description="AWS region, account and endpoints. Credentials come from the usual AWS "
        "credential chain.",
    )
    queue: QueueSettings = Field(description="The SQS queue with the training job events.")
    jobs: JobSettings = Field(
        JobSettings(),
        description="Which jobs are synced, and how their tags and hyperparameters are read.",
    )
    accounts: tuple[AccountSettings, ...] = Field(
        (),
        description="Other accounts and regions whose jobs are synced, too, each an entry {id, "
        "role_arn, external_id, regions}; as an environment variable, MODELDB_SYNC_ACCOUNTS, a "
        "JSON list. id: 12 digits in quotes. role_arn: the role to assume for that account's jobs; "
        "only the account of aws.account_id can do without one. external_id: what the role's trust "
        "policy asks for, if it does. regions: default: the daemon's own. []: the daemon works for "
        "its own account and region only. See docs/accounts.md.",
    )
    reconcile: ReconcileSettings = Field(
        ReconcileSettings(),
        description="Jobs whose event never came, and how far back the checkpoint may lack jobs.",
    )
    target: _AnyTarget = Field(discriminator="kind", description="Where runs are written.")
    checkpoint: CheckpointSettings = Field(
        SqliteSettings(),
        discriminator="kind",
        description="Where the daemon records which jobs are done.",
    )
    http: HttpSettings = Field(
        HttpSettings(), description="HTTP server for metrics and health checks."
    )
    log: LogSettings = Field(LogSettings(), description="Logging, to standard error.")
    shutdown: ShutdownSettings = Field(ShutdownSettings(), description="Graceful shutdown.")

    @field_validator("target", mode="before")
    @classmethod
    def _with_a_kind(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        return {"kind": DEFAULT_KIND, **value}

    @field_validator("accounts")
    @classmethod
    def _with_roles(
        cls, value: tuple[AccountSettings, ...], info: ValidationInfo
    ) -> tuple[AccountSettings, ...]:
        ids = [each.id for each in value]
        if twice := sorted({each for each in ids if ids.count(each) > 1}):
            raise refused(f"must have each account once; {twice[0]} is there twice")
        aws = info.data.get("aws")
        own = None if aws is None else aws.account_id
        for each in value:
            if each.role_arn is None and each.id != own:
                raise refused(
                    f"needs role_arn for account {each.id}: only the account of aws.account_id can "
                    "do without"
                )
            if each.role_arn is None and not each.regions:
                raise refused(
                    f"needs regions for account {each.id}, which is aws.account_id: its own region "
                    "needs no entry"
                )
        return value

    @field_validator("checkpoint", mode="before")
    @classmethod
    def _with_a_kind_of_checkpoint(cls, value: object) -> object:
        return {"kind": "sqlite", **value} if isinstance(value, Mapping) else value

    @field_validator("checkpoint")
    @classmethod
    def _in_the_region_of_the_queue(
        cls, value: CheckpointSettings, info: ValidationInfo
    ) -> CheckpointSettings:
        if not isinstance(value, DynamoDbSettings) or value.region is not None:
            return value
        aws, queue = info.data.get("aws"), info.data.get("queue")
        region = (aws and aws.region) or (queue and QueueName.of_url(queue.url).region)
        return value.model_copy(update={"region": region or None})

    @field_validator("checkpoint")
    @classmethod
    def _remembers_long_enough(
        cls, value: CheckpointSettings, info: ValidationInfo
    ) -> CheckpointSettings:
        reconcile = info.data.get("reconcile")
        if reconcile is None:
            return value
        keys = ["look_back_seconds", *(["longest_job_seconds"] if reconcile.every_seconds else [])]
        for key in keys:
            days = getattr(reconcile, key) / DAY_SECONDS
            if value.keep_days < days:
                raise refused(
                    f"must not be below reconcile.{key}, which is {days:.1f} days", key="keep_days"
                )
        return value

    @field_validator("shutdown")
    @classmethod
    def _outlives_a_poll(cls, value: ShutdownSettings, info: ValidationInfo) -> ShutdownSettings:
        queue = info.data.get("queue")
        if queue is not None and value.grace_seconds < queue.wait_seconds + 5:
            least = queue.wait_seconds + 5
            raise refused(
                f"must be at least queue.wait_seconds + 5 = {least}: a long poll is not cut off",
                key="grace_seconds",
            )
        return value


def settings_for_log(settings: Settings) -> dict[str, Any]:
    """The effective configuration as plain JSON data; secrets and header values ``**********``."""
    return settings.model_dump(mode="json")


def secret_values(settings: Settings) -> tuple[str, ...]:
    """Every secret of the configuration in each form in which it travels: never to be logged."""
    found = tuple(secret.get_secret_value() for secret in secrets_in(settings))
    return found + settings.target.derived_secrets()
