locals {
  tag_keys = [
    var.tag_model_db_sync,
    var.tag_model_db_project_name,
    var.tag_model_db_project_user,
    var.tag_model_db_project_desc,
    var.tag_model_db_model_name,
    var.tag_model_db_model_type,
  ]

  all_jobs = jsondecode(file("${path.module}/../eventbridge/rule-pattern.json"))

  # Both forms in which tags are known to come.
  tagged = {
    "$or" = [
      { Tags = { (var.tag_model_db_sync) = [{ exists = true }] } },
      { Tags = { Key = [var.tag_model_db_sync] } },
    ]
  }

  tag_change = jsondecode(file("${path.module}/../eventbridge/tag-change-pattern.json"))

  # The values of a conditional must have one type, so each whole pattern is text.
  rule_pattern = jsonencode(merge(local.all_jobs, {
    detail = merge({ TrainingJobStatus = var.job_statuses }, { for key, value in local.tagged : key => value if var.filter_by_tag })
  }))

  tag_change_pattern = jsonencode(merge(local.tag_change, {
    detail = merge(local.tag_change.detail, { changed-tag-keys = local.tag_keys })
  }))
}

resource "aws_cloudwatch_event_rule" "jobs" {
  name          = var.name
  description   = "Finished SageMaker training jobs, for ModelDB"
  event_pattern = local.rule_pattern
  tags          = var.tags

  depends_on = [aws_sqs_queue_policy.queue, aws_sqs_queue_policy.undelivered_events]
}

resource "aws_cloudwatch_event_target" "jobs" {
  rule      = aws_cloudwatch_event_rule.jobs.name
  target_id = "queue"
  arn       = aws_sqs_queue.queue.arn

  dead_letter_config {
    arn = aws_sqs_queue.undelivered_events.arn
  }

  retry_policy {
    maximum_retry_attempts       = 185
    maximum_event_age_in_seconds = 86400
  }
}

resource "aws_cloudwatch_event_rule" "tag_changes" {
  count = var.tag_changes ? 1 : 0

  name          = "${var.name}-tags"
  description   = "Changes of the tags of SageMaker training jobs, for ModelDB"
  event_pattern = local.tag_change_pattern
  tags          = var.tags

  depends_on = [aws_sqs_queue_policy.queue, aws_sqs_queue_policy.undelivered_events]
}

resource "aws_cloudwatch_event_target" "tag_changes" {
  count = var.tag_changes ? 1 : 0

  rule      = aws_cloudwatch_event_rule.tag_changes[0].name
  target_id = "queue"
  arn       = aws_sqs_queue.queue.arn

  dead_letter_config {
    arn = aws_sqs_queue.undelivered_events.arn
  }

  retry_policy {
    maximum_retry_attempts       = 185
    maximum_event_age_in_seconds = 86400
  }
}
