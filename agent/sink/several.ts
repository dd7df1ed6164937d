import type { Sink } from './sink.ts';

/** A sink by the name that the configuration gives it, and that a request may pick. */
export interface NamedSink {
  readonly name: string;
  readonly sink: Sink;
}
