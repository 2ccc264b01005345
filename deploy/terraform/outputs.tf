output "queue_url" {
  description = "queue.url of the daemon's configuration."
  value       = aws_sqs_queue.queue.url
}

output "queue_arn" {
  description = "ARN of the queue."
  value       = aws_sqs_queue.queue.arn
}

output "dead_letter_queue_url" {
  description = "Rejected messages with reason and detail, and those that were received ten times."
  value       = aws_sqs_queue.dead_letters.url
}

output "dead_letter_queue_arn" {
  description = "ARN of the dead-letter queue."
  value       = aws_sqs_queue.dead_letters.arn
}

output "undelivered_events_queue_url" {
  description = "Events that EventBridge could not put into the queue."
  value       = aws_sqs_queue.undelivered_events.url
}

output "undelivered_events_queue_arn" {
  description = "ARN of the queue with events that could not be delivered."
  value       = aws_sqs_queue.undelivered_events.arn
}

output "checkpoint_table" {
  description = "checkpoint.table of the daemon's configuration; null with checkpoint_kind sqlite."
  value       = one(aws_dynamodb_table.checkpoint[*].name)
}

output "task_policy_arn" {
  description = "The daemon's permissions, for a role of your own."
  value       = aws_iam_policy.task.arn
}

output "task_role_arn" {
  description = "The daemon's role; null if none is made."
  value       = one(aws_iam_role.task[*].arn)
}

output "instance_profile_arn" {
  description = "With trusted_service ec2.amazonaws.com: the instance profile of the daemon's host; else null."
  value       = one(aws_iam_instance_profile.task[*].arn)
}
