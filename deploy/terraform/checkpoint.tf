# The checkpoint that several daemons share.

resource "aws_dynamodb_table" "checkpoint" {
  count = var.checkpoint_kind == "dynamodb" ? 1 : 0

  name                        = var.name
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "pk"
  range_key                   = "sk"
  deletion_protection_enabled = true
  tags                        = var.tags

  dynamic "attribute" {
    for_each = { pk = "S", sk = "S", outcome = "S", group = "S", changed_at = "N" }

    content {
      name = attribute.key
      type = attribute.value
    }
  }

  dynamic "global_secondary_index" {
    for_each = { by_outcome = "outcome", by_group = "group" }

    content {
      name               = global_secondary_index.key
      hash_key           = global_secondary_index.value
      range_key          = "changed_at"
      projection_type    = "INCLUDE"
      non_key_attributes = ["row"]
    }
  }

  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  # Without it, the next daemon looks every job up in ModelDB.
  lifecycle {
    prevent_destroy = true
  }
}
