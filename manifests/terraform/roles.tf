resource "aws_iam_role" "agent" {
  name               = "exhibit-agent"
  description        = "Writes evidence, and cannot read, list or delete it"
  assume_role_policy = templatefile("${path.module}/../iam/trust-${var.identity}.json", local.names)
}

resource "aws_iam_role_policy" "agent" {
  name = "exhibit-agent"
  role = aws_iam_role.agent.id
  policy = templatefile("${path.module}/../iam/agent.json", merge(local.names, {
    evidence_key_arn = aws_kms_key.evidence.arn
    seal_key_arn     = aws_kms_key.seal.arn
  }))
}

resource "aws_eks_pod_identity_association" "agent" {
  count           = var.identity == "pod-identity" ? 1 : 0
  cluster_name    = var.cluster_name
  namespace       = "exhibit"
  service_account = "exhibit-agent"
  role_arn        = aws_iam_role.agent.arn
}

resource "aws_iam_role" "reader" {
  name               = "exhibit-reader"
  description        = "Reads evidence: exhibit verify, extract, timeline s3://..."
  assume_role_policy = var.reader_trust_policy
}

resource "aws_iam_role_policy" "reader" {
  name = "exhibit-reader"
  role = aws_iam_role.reader.id
  policy = templatefile("${path.module}/../iam/reader.json", merge(local.names, {
    evidence_key_arn = aws_kms_key.evidence.arn
  }))
}
