# Encrypts evidence at rest (sink.serverSideEncryption).
resource "aws_kms_key" "evidence" {
  description             = "exhibit: evidence at rest"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy = templatefile("${path.module}/../iam/evidence-key.json", merge(local.names, {
    agent_role_arn  = aws_iam_role.agent.arn
    reader_role_arn = aws_iam_role.reader.arn
  }))

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "evidence" {
  name          = "alias/exhibit-evidence"
  target_key_id = aws_kms_key.evidence.key_id
}

# Seals manifests (signing.keys). P-256 is the one kind that the agent takes.
resource "aws_kms_key" "seal" {
  description              = "exhibit: seals of evidence"
  customer_master_key_spec = "ECC_NIST_P256"
  key_usage                = "SIGN_VERIFY"
  deletion_window_in_days  = 30
  policy = templatefile("${path.module}/../iam/seal-key.json", merge(local.names, {
    agent_role_arn = aws_iam_role.agent.arn
  }))

  # Seals are checked with the public key alone, but nobody seals with a key that is gone.
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "seal" {
  name          = "alias/exhibit-seal"
  target_key_id = aws_kms_key.seal.key_id
}
