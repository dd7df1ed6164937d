import { clampMoment, floorDivide, isoMicroseconds } from '../evidence/timeline/moment.ts';
import type { TimelineEntry } from '../evidence/timeline/timeline.ts';
import { toJson } from './print.ts';
import { eventsOf, type Origin, type TimelineFormat, type TimeRange } from './timeline-format.ts';

/**
 * JSON lines for Timesketch: `message`, `datetime` and `timestamp_desc` are what it asks for, `timestamp` (microseconds) is kept as
 * it is, everything else becomes an attribute. `timestamp_ns` is exact. Texts are exact as well, as far as they are UTF-8.
 */
export function jsonlFormat(origin: Origin, range: TimeRange): TimelineFormat {
  return {
    header: '',
    *lines(entry) {
      const events = eventsOf(entry.times, range);
      if (events.length === 0) return;
      const rest = toJson(attributes(entry, origin)).slice(1);
      for (const { ns, words } of events) {
        const micros = floorDivide(clampMoment(ns), 1000n);
        const time = `{"datetime":"${isoMicroseconds(ns)}","timestamp":${micros},"timestamp_ns":"${ns}"`;
        yield { ns, text: `${time},"timestamp_desc":"${words}",${rest}\n` };
      }
    },
  };
}

function attributes(entry: TimelineEntry, origin: Origin): object {
  const { message, dataType, artifact, object, member, line, container = origin.container, fields } = entry;
  const source = { message, data_type: dataType, artifact, object, member, line };
  return { ...source, ...fields, ...origin, container };
}
