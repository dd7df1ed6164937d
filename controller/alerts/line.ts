/** Work that waits its turn: so many at once, so many behind them, and no more. */
export interface Line {
  readonly waiting: number;
  /** Undefined when the line is full. */
  enter<Result>(work: () => Promise<Result>): Promise<Result> | undefined;
}

export function createLine(atOnce: number, mostWaiting: number): Line {
  const queue: (() => void)[] = [];
  let running = 0;
  const leave = (): void => {
    const next = queue.shift();
    if (next === undefined) running -= 1;
    else next();
  };
  return {
    get waiting() {
      return queue.length;
    },
    enter: (work) => {
      if (running >= atOnce && queue.length >= mostWaiting) return undefined;
      const turn = running < atOnce ? Promise.resolve() : new Promise<void>((resolve) => queue.push(resolve));
      if (running < atOnce) running += 1;
      return turn.then(work).finally(leave);
    },
  };
}
