output "sink" {
  description = "For the agent's configuration."
  value = {
    url    = "s3://${var.bucket}/${var.prefix}"
    region = var.region
    serverSideEncryption = {
      kind      = "aws:kms"
      keyId     = aws_kms_key.evidence.arn
      bucketKey = true
    }
  }
}

output "signing_key" {
  description = "For signing.keys: an alias, so that the key behind it can be replaced."
  value       = aws_kms_alias.seal.arn
}

output "agent_role_arn" {
  description = "For eks.amazonaws.com/role-arn with irsa."
  value       = aws_iam_role.agent.arn
}
