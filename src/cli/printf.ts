/** Numbers as C prints them. */

/** `%.Nf`: a tie goes to the even digit, where `toFixed` takes the larger number. */
export function fixed(value: number, decimals: number): string {
  const [, kept = '', rest = ''] = new RegExp(`^(.*\\.\\d{${decimals}})(\\d*)$`).exec(value.toFixed(Math.min(100, decimals + 60))) ?? [];
  const tie = /^50*$/.test(rest) && Number(kept.at(-1)) % 2 === 0;
  return tie ? kept : value.toFixed(decimals);
}
