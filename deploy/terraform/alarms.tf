locals {
  alarm_topics = [for arn in [var.alarm_topic_arn] : arn if arn != ""]

  runbook = "https://github.com/OWNER/sagemaker-modeldb-sync/blob/main/deploy/cloudformation/README.md"

  alarms = {
    dead-letters = {
      description = "Training jobs that are not in ModelDB. The message attributes reason and detail say why and what to fix."
      queue       = aws_sqs_queue.dead_letters.name
      metric      = "ApproximateNumberOfMessagesVisible"
      threshold   = 0
    }
    undelivered-events = {
      description = "Events that EventBridge could not put into the queue. The message attribute ERROR_MESSAGE says why."
      queue       = aws_sqs_queue.undelivered_events.name
      metric      = "ApproximateNumberOfMessagesVisible"
      threshold   = 0
    }
    oldest-message = {
      description = "A finished training job waits for ModelDB. The daemon's log and its metric breaker_open say what for."
      queue       = aws_sqs_queue.queue.name
      metric      = "ApproximateAgeOfOldestMessage"
      threshold   = var.oldest_message_alarm_seconds
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "queue" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "${each.value.description} ${local.runbook}#${each.key}"
  namespace           = "AWS/SQS"
  metric_name         = each.value.metric
  dimensions          = { QueueName = each.value.queue }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  threshold           = each.value.threshold
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_topics
  ok_actions          = local.alarm_topics
  tags                = var.tags
}
