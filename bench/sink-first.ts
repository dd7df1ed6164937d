export async function firstObject(rounds: number): Promise<{ text: string; rows: unknown[] }> {
  return { text: '', rows: [rounds] };
}
