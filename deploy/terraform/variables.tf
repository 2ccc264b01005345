# The names and defaults are those of the parameters in ../cloudformation/modeldb-sync.yaml, in snake case.

variable "name" {
  description = "Name of the rule and the queue, and what the names of everything else begin with."
  type        = string
  default     = "modeldb-sync"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,59}$", var.name))
    error_message = "name: lower-case letters, digits and hyphens, at most 60, beginning with a letter."
  }
}

variable "tag_model_db_sync" {
  description = "A job with this tag is synced, whatever the tag's value (jobs.tag_keys.sync)."
  type        = string
  default     = "MODEL_DB_SYNC"
}

variable "tag_model_db_project_name" {
  description = "Tag with the name of the project."
  type        = string
  default     = "MODEL_DB_PROJECT_NAME"
}

variable "tag_model_db_project_user" {
  description = "Tag with the project's user."
  type        = string
  default     = "MODEL_DB_PROJECT_USER"
}

variable "tag_model_db_project_desc" {
  description = "Tag with the description of the project."
  type        = string
  default     = "MODEL_DB_PROJECT_DESC"
}

variable "tag_model_db_model_name" {
  description = "Tag with the name of the model."
  type        = string
  default     = "MODEL_DB_MODEL_NAME"
}

variable "tag_model_db_model_type" {
  description = "Tag with the type of the model."
  type        = string
  default     = "MODEL_DB_MODEL_TYPE"
}

variable "job_statuses" {
  description = "Statuses whose events come into the queue; give the daemon the same (jobs.statuses)."
  type        = list(string)
  default     = ["Completed"]

  validation {
    condition     = length(var.job_statuses) > 0 && length(setsubtract(var.job_statuses, ["Completed", "Stopped", "Failed"])) == 0
    error_message = "job_statuses: one or more of Completed, Stopped, Failed."
  }
}

variable "filter_by_tag" {
  description = "Whether only events with the tag tag_model_db_sync come into the queue. It loses jobs: events can come with empty Tags although the job is tagged, and jobs can be tagged later."
  type        = bool
  default     = false
}

variable "tag_changes" {
  description = "Whether changes of these tags come into the queue, too, so that a job which is tagged after its end is synced."
  type        = bool
  default     = true
}

variable "metric_series" {
  description = "Whether the daemon may read the curves of a job's metrics (jobs.metric_series)."
  type        = bool
  default     = false
}

variable "mlflow_tracking_uri" {
  description = "The ARN of a tracking server or an MLflow App of SageMaker, which the daemon is then allowed to write to. Empty for any other target."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws(-us-gov)?:sagemaker:[a-z0-9-]+:[0-9]{12}:mlflow-(tracking-server|app)/[A-Za-z0-9-]+)?$", var.mlflow_tracking_uri))
    error_message = "mlflow_tracking_uri: the ARN of an mlflow-tracking-server or mlflow-app; the daemon needs no permission for a URL."
  }
}

variable "queue_kms_key_arn" {
  description = "Your own KMS key for the queues; its key policy must allow events.amazonaws.com kms:Decrypt and kms:GenerateDataKey. Empty: SQS encrypts with a key of its own."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+)?$", var.queue_kms_key_arn))
    error_message = "queue_kms_key_arn: the ARN of a key, not of an alias."
  }
}

variable "checkpoint_kind" {
  description = "Where the daemon records which jobs are done (checkpoint.kind): sqlite, a file of its own; or dynamodb, a table with the name var.name, which several daemons share."
  type        = string
  default     = "sqlite"

  validation {
    condition     = contains(["sqlite", "dynamodb"], var.checkpoint_kind)
    error_message = "checkpoint_kind: sqlite or dynamodb."
  }
}

variable "trusted_service" {
  description = "The service whose tasks, hosts or pods take the daemon's role: ecs-tasks.amazonaws.com, ec2.amazonaws.com or pods.eks.amazonaws.com. none, and no principal below: no role is made; attach the policy (output task_policy_arn) to a role of your own, as IRSA does."
  type        = string
  default     = "none"

  validation {
    condition     = contains(["none", "ec2.amazonaws.com", "pods.eks.amazonaws.com", "ecs-tasks.amazonaws.com"], var.trusted_service)
    error_message = "trusted_service: none, ec2.amazonaws.com, pods.eks.amazonaws.com or ecs-tasks.amazonaws.com."
  }
}

variable "trusted_principal_arn" {
  description = "Instead of a service, the role or user that takes the daemon's role."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:[a-z-]+:iam::[0-9]{12}:\\S+)?$", var.trusted_principal_arn))
    error_message = "trusted_principal_arn: the ARN of a role or user."
  }
}

variable "member_accounts" {
  description = "Their 12-digit ids. The role modeldb-sync-events of each, which ../cloudformation/member-account.yaml makes, may send to the queue, and the daemon may assume the role modeldb-sync-member of each."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for account in var.member_accounts : can(regex("^[0-9]{12}$", account))])
    error_message = "member_accounts: ids of 12 digits."
  }
}

variable "organization_id" {
  description = "Only accounts of this organization. Empty: those of member_accounts, whatever their organization."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(o-[a-z0-9]{10,32})?$", var.organization_id))
    error_message = "organization_id: o- and 10 to 32 lower-case letters and digits."
  }
}

variable "alarm_topic_arn" {
  description = "SNS topic that alarms are sent to. Empty: alarms are visible only in CloudWatch."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:\\S+)?$", var.alarm_topic_arn))
    error_message = "alarm_topic_arn: the ARN of an SNS topic."
  }
}

variable "oldest_message_alarm_seconds" {
  description = "Alarm when a finished job has waited this long: ModelDB or the daemon is down, or one job keeps failing."
  type        = number
  default     = 3600

  validation {
    condition     = var.oldest_message_alarm_seconds >= 300 && var.oldest_message_alarm_seconds <= 518400
    error_message = "oldest_message_alarm_seconds: 300 to 518400."
  }
}

variable "tags" {
  description = "Tags of everything that is made here."
  type        = map(string)
  default     = {}
}
