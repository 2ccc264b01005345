# The policies are the files in ../iam and ../eventbridge, put in place: one source for every way to deploy.

locals {
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id
  account   = data.aws_caller_identity.current.account_id

  queue_arn = "arn:${local.partition}:sqs:${local.region}:${local.account}:${var.name}"

  files = {
    task                   = "iam/task-policy.json"
    checkpoint             = "iam/dynamodb-policy.json"
    accounts               = "iam/accounts-policy.json"
    queue                  = "eventbridge/queue-policy.json"
    mlflow_tracking_server = "iam/mlflow-tracking-server-policy.json"
    mlflow_app             = "iam/mlflow-app-policy.json"
  }

  documents = {
    for key, file in local.files : key => jsondecode(
      replace(
        replace(
          replace(
            replace(file("${path.module}/../${file}"), "arn:aws:", "arn:${local.partition}:"),
            "REGION",
            local.region,
          ),
          "ACCOUNT",
          local.account,
        ),
        "modeldb-sync",
        var.name,
      )
    )
  }

  # Statements have members of different types; as text they can be in one list.
  task_statements = [
    for statement in local.documents.task.Statement : jsonencode(statement)
    if statement.Sid != "ReadMetricSeries" || var.metric_series
  ]

  checkpoint_statements = [
    for statement in local.documents.checkpoint.Statement : jsonencode(statement)
    if var.checkpoint_kind == "dynamodb"
  ]

  managed_mlflow = strcontains(var.mlflow_tracking_uri, ":mlflow-app/") ? "mlflow_app" : "mlflow_tracking_server"

  mlflow_statements = [
    for statement in local.documents[local.managed_mlflow].Statement : jsonencode(merge(statement, { Resource = var.mlflow_tracking_uri }))
    if var.mlflow_tracking_uri != ""
  ]

  key_statements = [
    for arn in [var.queue_kms_key_arn] : jsonencode({
      Sid      = "UseTheKeyOfTheQueues"
      Effect   = "Allow"
      Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource = arn
    }) if arn != ""
  ]

  member_statements = [
    for statement in local.documents.accounts.Statement : jsonencode(merge(statement, {
      Resource  = "arn:${local.partition}:iam::*:role/modeldb-sync-member"
      Condition = { StringEquals = { "aws:ResourceAccount" = var.member_accounts } }
    })) if length(var.member_accounts) > 0
  ]

  task_policy = "{\"Version\":\"2012-10-17\",\"Statement\":[${join(",", concat(local.task_statements, local.checkpoint_statements, local.mlflow_statements, local.member_statements, local.key_statements))}]}"

  # EventBridge sends from another account with a role of that account.
  member_senders = [
    for accounts in [var.member_accounts] : jsonencode({
      Sid       = "LetTheMembersSend"
      Effect    = "Allow"
      Principal = { AWS = accounts }
      Action    = "sqs:SendMessage"
      Resource  = local.queue_arn
      Condition = merge(
        { ArnLike = { "aws:PrincipalArn" = "arn:${local.partition}:iam::*:role/modeldb-sync-events" } },
        { for id in [var.organization_id] : "StringEquals" => { "aws:PrincipalOrgID" = id } if id != "" },
      )
    }) if length(accounts) > 0
  ]

  queue_statements = [for statement in local.documents.queue.Statement : jsonencode(statement)]

  queue_policy = "{\"Version\":\"2012-10-17\",\"Statement\":[${join(",", concat(local.queue_statements, local.member_senders))}]}"

  makes_role = var.trusted_service != "none" || var.trusted_principal_arn != ""

  trusted_actions = var.trusted_service == "pods.eks.amazonaws.com" ? ["sts:AssumeRole", "sts:TagSession"] : ["sts:AssumeRole"]
}

resource "aws_iam_policy" "task" {
  name_prefix = "${var.name}-"
  description = "What sagemaker-modeldb-sync calls, and nothing else"
  policy      = local.task_policy
  tags        = var.tags
}

data "aws_iam_policy_document" "trust" {
  count = local.makes_role ? 1 : 0

  statement {
    actions = local.trusted_actions

    principals {
      type        = var.trusted_service == "none" ? "AWS" : "Service"
      identifiers = [var.trusted_service == "none" ? var.trusted_principal_arn : var.trusted_service]
    }

    # A task definition of another account must not borrow the role.
    dynamic "condition" {
      for_each = var.trusted_service == "ecs-tasks.amazonaws.com" ? [local.account] : []

      content {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [condition.value]
      }
    }
  }
}

resource "aws_iam_role" "task" {
  count = local.makes_role ? 1 : 0

  name_prefix        = substr("${var.name}-", 0, 38)
  description        = "The daemon sagemaker-modeldb-sync"
  assume_role_policy = data.aws_iam_policy_document.trust[0].json
  tags               = var.tags

  lifecycle {
    precondition {
      condition     = var.trusted_service == "none" || var.trusted_principal_arn == ""
      error_message = "Give trusted_service or trusted_principal_arn, not both."
    }
  }
}

resource "aws_iam_role_policy_attachment" "task" {
  count = local.makes_role ? 1 : 0

  role       = aws_iam_role.task[0].name
  policy_arn = aws_iam_policy.task.arn
}

resource "aws_iam_instance_profile" "task" {
  count = var.trusted_service == "ec2.amazonaws.com" ? 1 : 0

  name_prefix = "${var.name}-"
  role        = aws_iam_role.task[0].name
  tags        = var.tags
}
