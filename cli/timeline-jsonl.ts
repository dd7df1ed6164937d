import { clampMoment, floorDivide, isoMicroseconds } from '../evidence/timeline/moment.ts';
import type { TimelineEntry } from '../evidence/timeline/timeline.ts';
import { toJson } from './print.ts';
import { eventsOf, type Origin, type TimelineFormat, type TimeRange } from './timeline-format.ts';

/**
 * JSON lines for Timesketch: `message`, `datetime` and `timestamp_desc` are what it asks for, `timestamp` (microseconds) is kept as
 * it is, everything else becomes an attribute. `timestamp_ns` is exact. Texts are exact as well, as far as they are UTF-8.
 */
export function jsonlFormat({ container: own, ...origin }: Origin, range: TimeRange): TimelineFormat {
  return {
    header: '',
    head: (ns) =>
      `{"datetime":"${isoMicroseconds(ns)}","timestamp":${floorDivide(clampMoment(ns), 1000n)},"timestamp_ns":"${ns}",`,
    *lines(entry) {
      const events = eventsOf(entry.times, range);
      if (events.length === 0) return;
      const rest = toJson(attributes(entry, own)).slice(1, -1);
      for (const { ns, words } of events) yield { ns, text: `"timestamp_desc":"${words}",${rest}` };
    },
    tail: `,${toJson(origin).slice(1)}\n`,
  };
}

function attributes(entry: TimelineEntry, own: string): object {
  const { message, dataType, artifact, object, member, line, container = own, fields } = entry;
  return { message, data_type: dataType, artifact, object, member, line, ...fields, container };
}
