# What still waits in the queues is lost when they are destroyed.

resource "aws_sqs_queue" "queue" {
  name                       = var.name
  visibility_timeout_seconds = 120
  message_retention_seconds  = 604800
  sqs_managed_sse_enabled    = var.queue_kms_key_arn == "" ? true : null
  kms_master_key_id          = var.queue_kms_key_arn == "" ? null : var.queue_kms_key_arn
  tags                       = var.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = 10
  })
}

resource "aws_sqs_queue" "dead_letters" {
  name                      = "${var.name}-dead-letters"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = var.queue_kms_key_arn == "" ? true : null
  kms_master_key_id         = var.queue_kms_key_arn == "" ? null : var.queue_kms_key_arn
  tags                      = var.tags

  # The ARN is put together here, because the queue's own redrive policy refers to this one.
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [local.queue_arn]
  })
}

resource "aws_sqs_queue" "undelivered_events" {
  name                      = "${var.name}-undelivered-events"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = var.queue_kms_key_arn == "" ? true : null
  kms_master_key_id         = var.queue_kms_key_arn == "" ? null : var.queue_kms_key_arn
  tags                      = var.tags

  redrive_allow_policy = jsonencode({
    redrivePermission = "denyAll"
  })
}

resource "aws_sqs_queue_policy" "queue" {
  queue_url = aws_sqs_queue.queue.url
  policy    = local.queue_policy
}

resource "aws_sqs_queue_policy" "undelivered_events" {
  queue_url = aws_sqs_queue.undelivered_events.url
  policy    = replace(jsonencode(local.documents.queue), local.queue_arn, aws_sqs_queue.undelivered_events.arn)
}

resource "aws_sqs_queue_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.url
  policy = replace(
    jsonencode(merge(local.documents.queue, {
      Statement = [for statement in local.documents.queue.Statement : statement if statement.Sid == "OnlyWithTls"]
    })),
    local.queue_arn,
    aws_sqs_queue.dead_letters.arn,
  )
}
