/** Names of the pretended fleet of the controller's bench. */

export const CLUSTER = 'bench';
/** A label parts the nodes into so many batches. */
export const BATCHES = 10;

export const nodeName = (at: number): string =>
  `ip-10-0-${Math.floor(at / 250)}-${at % 250}.eu-central-1.compute.internal`;

/** The pod that is captured on the node; as long as a Deployment's names are. */
export const podOf = (node: string): string => `web-5d4f8b7c9d-${node.split('.')[0]}`;
