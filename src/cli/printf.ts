/** Numbers as C prints them, and JSON as QEMU does. */

/** `%.Nf`: a tie goes to the even digit, where `toFixed` takes the larger number. */
export function fixed(value: number, decimals: number): string {
  const [, kept = '', rest = ''] = new RegExp(`^(.*\\.\\d{${decimals}})(\\d*)$`).exec(value.toFixed(Math.min(100, decimals + 60))) ?? [];
  const tie = /^50*$/.test(rest) && Number(kept.at(-1)) % 2 === 0;
  return tie ? kept : value.toFixed(decimals);
}

/** JSON in ASCII, indented by four; parts that are not text become U+FFFD. */
export function jsonText(value: unknown): string {
  const wellFormed = (_key: string, one: unknown) => (typeof one === 'string' ? asText(one) : one);
  return JSON.stringify(value, wellFormed, 4).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`,
  );
}

/** A lone surrogate is not text. */
const asText = (value: string): string => value.replace(/\p{Surrogate}/gu, '\ufffd');
