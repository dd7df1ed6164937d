locals {
  names = {
    partition              = data.aws_partition.here.partition
    dns_suffix             = data.aws_partition.here.dns_suffix
    account                = data.aws_caller_identity.here.account_id
    region                 = var.region
    bucket                 = var.bucket
    prefix                 = var.prefix
    longest_retention_days = var.longest_retention_days
    oidc_provider          = var.oidc_provider
    custodian_role_arn     = var.custodian_role_arn
    cluster_arn            = "arn:${data.aws_partition.here.partition}:eks:${var.region}:${data.aws_caller_identity.here.account_id}:cluster/${var.cluster_name}"
  }
}

resource "aws_s3_bucket" "evidence" {
  bucket              = var.bucket
  object_lock_enabled = true

  lifecycle {
    prevent_destroy = true
  }
}

# Object Lock needs versions, and they are what a deleted or overwritten object comes back from.
resource "aws_s3_bucket_versioning" "evidence" {
  bucket = aws_s3_bucket.evidence.id
  versioning_configuration {
    status = "Enabled"
  }
}

# No default retention: each object asks for its own (sink.objectLock), by the case it belongs to.
resource "aws_s3_bucket_object_lock_configuration" "evidence" {
  bucket     = aws_s3_bucket.evidence.id
  depends_on = [aws_s3_bucket_versioning.evidence]
}

resource "aws_s3_bucket_public_access_block" "evidence" {
  bucket                  = aws_s3_bucket.evidence.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "evidence" {
  bucket = aws_s3_bucket.evidence.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "evidence" {
  bucket = aws_s3_bucket.evidence.id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.evidence.arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "evidence" {
  bucket     = aws_s3_bucket.evidence.id
  depends_on = [aws_s3_bucket_versioning.evidence]

  # Scheduled captures, by the tag that sink.tags puts on them. Object Lock wins: an object goes when both have passed.
  dynamic "rule" {
    for_each = var.keep_days
    content {
      id     = "exhibit-${rule.value}-days"
      status = "Enabled"
      filter {
        tag {
          key   = "exhibit-keep-days"
          value = tostring(rule.value)
        }
      }
      expiration {
        days = rule.value
      }
      noncurrent_version_expiration {
        noncurrent_days = 1
      }
    }
  }

  # What an agent that died has begun and nobody has finished. The agent itself goes on with what is younger.
  rule {
    id     = "unfinished-uploads"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

resource "aws_s3_bucket_policy" "evidence" {
  bucket = aws_s3_bucket.evidence.id
  policy = templatefile("${path.module}/../iam/bucket.json", merge(local.names, {
    evidence_key_arn = aws_kms_key.evidence.arn
    agent_role_arn   = aws_iam_role.agent.arn
  }))
  depends_on = [
    aws_s3_bucket_lifecycle_configuration.evidence,
    aws_s3_bucket_object_lock_configuration.evidence,
    aws_s3_bucket_ownership_controls.evidence,
    aws_s3_bucket_public_access_block.evidence,
    aws_s3_bucket_server_side_encryption_configuration.evidence,
  ]
}
