import type { PeerCertificate } from 'node:tls';

/** Who calls, and what they may do. */

export const ROLES = ['viewer', 'responder', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/** A role in the clusters and namespaces that match; patterns with `*`. Targets outside Kubernetes are of the namespace ''. */
export interface Grant {
  readonly role: Role;
  readonly clusters: readonly string[];
  readonly namespaces: readonly string[];
}

export interface Caller {
  /** Unique among callers of one kind: `alice` of a certificate, `https://issuer#subject` of a token. */
  readonly name: string;
  readonly by: 'certificate' | 'oidc' | 'alert';
  readonly grants: readonly Grant[];
  /** Other names of the same person, by another certificate or a token: whoever asked by one of them asked. */
  readonly aliases?: readonly string[];
}

/** What a call brings with it, over gRPC or HTTP. */
export interface Credentials {
  /** One that the listener's trust verified; absent: none was shown. */
  readonly certificate?: PeerCertificate;
  /** The header `authorization`, as it came. */
  readonly authorization?: string;
  /** For the audit log and rate limits: address and port of the other end. */
  readonly peer: string;
}

export interface Identity {
  /** @throws ExhibitError `unauthenticated`, in words that tell a stranger nothing about those who are known */
  authenticate(credentials: Credentials): Promise<Caller>;
}

/** viewer: see. responder: capture, cancel, approve, cases. admin: the whole audit log. Each includes the one before. */
export type Right = 'see' | 'capture' | 'administer';

export interface Place {
  readonly cluster: string;
  /** '' outside Kubernetes. */
  readonly namespace: string;
}

/** Rate limits of one operator; shared by gRPC and HTTP. */
export interface RateLimit {
  /** @throws ExhibitError `rate-limited`, with the seconds to wait */
  take(caller: Caller, kind: 'read' | 'write'): void;
}

/** The node that a certificate names; agents' certificates alone carry one. */
export interface AgentIdentity {
  readonly cluster: string;
  readonly node: string;
}
