import { z } from 'zod';
import { isExhibitError } from '../../evidence/error.ts';
import { parseJson } from '../../evidence/json.ts';
import { IdMaps } from './id-map.ts';

const mappings = z
  .array(z.looseObject({ containerID: z.number(), hostID: z.number(), size: z.number() }))
  .transform((rows) =>
    rows.map(({ containerID, hostID, size }) => ({ inside: containerID, outside: hostID, length: size })),
  )
  .default([]);
const specSchema = z.looseObject({ linux: z.looseObject({ uidMappings: mappings, gidMappings: mappings }) });
/** A spec lists every mount and variable of a container. */
const SPEC_BYTES = 16 * 1024 * 1024;

/**
 * OCI runtime-spec, config-linux.md, `uidMappings`: without any there is no user namespace of its own. Undefined for what is
 * no spec.
 */
export function idsOfSpec(bytes: Uint8Array): IdMaps | 'none' | undefined {
  try {
    const { linux } = specSchema.parse(parseJson(bytes, SPEC_BYTES, 'oci-spec.json'));
    if (linux.uidMappings.length === 0 && linux.gidMappings.length === 0) return 'none';
    return IdMaps.of(linux.uidMappings, linux.gidMappings) ?? 'none';
  } catch (error) {
    if (error instanceof z.ZodError || isExhibitError(error, 'bundle-corrupt')) return undefined;
    throw error;
  }
}

const infoSchema = z.looseObject({ SecurityOptions: z.array(z.string()) });

/** `docker info`: only a daemon with `userns-remap` gives containers ids of their own, and says `name=userns` then. */
export function remapsNobody(bytes: Uint8Array): boolean {
  try {
    const { SecurityOptions } = infoSchema.parse(parseJson(bytes, SPEC_BYTES, 'docker-info.json'));
    return !SecurityOptions.some((option) => /\bname=(userns|rootless)\b/.test(option));
  } catch (error) {
    if (error instanceof z.ZodError || isExhibitError(error, 'bundle-corrupt')) return false;
    throw error;
  }
}
