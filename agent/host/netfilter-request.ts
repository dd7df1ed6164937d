import { ASK_FLAGS, DUMP_FLAGS, encodeAttribute, encodeRequest } from './netlink.ts';

/** Requests of nfnetlink: include/uapi/linux/netfilter/nfnetlink.h, nf_tables.h and nfnetlink_conntrack.h. */

/** netlink(7). */
export const NETLINK_NETFILTER = 12;

/** NFNL_SUBSYS_*: the upper byte of a message's type. */
export const SUBSYSTEM = { conntrack: 1, nftables: 10 } as const;

/** NFT_MSG_GET*; each answers with the number before it (NFT_MSG_NEW*). */
const GET = {
  tables: 1,
  chains: 4,
  rules: 7,
  sets: 10,
  elements: 13,
  objects: 19,
  flowtables: 23,
} as const;
export type NftablesDump = keyof typeof GET;

/** Dumps of the whole ruleset; elements are asked for set by set. */
export const NFTABLES_DUMPS = ['tables', 'chains', 'rules', 'sets', 'objects', 'flowtables'] as const;

/** NFT_MSG_NEW*: the type of the messages that a dump consists of; NFT_MSG_NEWFLOWTABLE is 22, the others one less than GET. */
export function nftablesType(dump: NftablesDump): number {
  return (SUBSYSTEM.nftables << 8) | (GET[dump] - 1);
}

/** struct nfgenmsg: family, version 0, resource 0. Family 0 is all of them. */
function header(family: number): Buffer {
  return Buffer.from([family, 0, 0, 0]);
}

export function nftablesRequest(dump: Exclude<NftablesDump, 'elements'>): Buffer {
  return encodeRequest((SUBSYSTEM.nftables << 8) | GET[dump], DUMP_FLAGS, header(0));
}

/** NFTA_SET_ELEM_LIST_TABLE and _SET, both by name in bytes. */
export function elementsRequest(family: number, table: Uint8Array, set: Uint8Array): Buffer {
  const body = Buffer.concat([header(family), encodeAttribute(1, table), encodeAttribute(2, set)]);
  return encodeRequest((SUBSYSTEM.nftables << 8) | GET.elements, DUMP_FLAGS, body);
}

/** NLM_F_ACK: a single answer is followed by an end. */
const ACK_FLAG = 0x4;

/** NFT_MSG_GETGEN: a number that changes with each change of the ruleset. */
export function generationRequest(): Buffer {
  return encodeRequest((SUBSYSTEM.nftables << 8) | 16, ASK_FLAGS | ACK_FLAG, header(0));
}

/** IPCTNL_MSG_CT_GET, of both families. */
export function conntrackRequest(): Buffer {
  return encodeRequest((SUBSYSTEM.conntrack << 8) | 1, DUMP_FLAGS, header(0));
}
