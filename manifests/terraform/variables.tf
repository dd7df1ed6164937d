variable "region" {
  description = "Of the bucket and the keys."
  type        = string
  default     = "eu-central-1"
}

variable "bucket" {
  description = "Name of the bucket of evidence, which is made."
  type        = string
}

variable "prefix" {
  description = "The part of sink.url after the bucket."
  type        = string
  default     = "exhibit"
}

variable "longest_retention_days" {
  description = "The largest retainDays of sink.objectLock: the bucket refuses longer ones, so that stolen credentials lock nothing for a century."
  type        = number
  default     = 3650
}

variable "cluster_name" {
  description = "The EKS cluster whose agents write evidence."
  type        = string
}

variable "identity" {
  description = "How the agents get the role: pod-identity, or irsa (with oidc_provider)."
  type        = string
  default     = "pod-identity"
  validation {
    condition     = contains(["pod-identity", "irsa"], var.identity)
    error_message = "identity is pod-identity or irsa."
  }
}

variable "oidc_provider" {
  description = "For irsa: the cluster's issuer without https://, as oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE."
  type        = string
  default     = ""
}

variable "custodian_role_arn" {
  description = "The one role that may delete evidence whose retention is over, and change the bucket's rules. Terraform has to run as it."
  type        = string
}

variable "reader_trust_policy" {
  description = "Who may read evidence: the trust policy of the readers' role, as JSON."
  type        = string
}

variable "keep_days" {
  description = "Values of keepDays in schedules: each needs a lifecycle rule of its own."
  type        = set(number)
  default     = [7, 30]
}
