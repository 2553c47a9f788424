/** A step of a case; README.md says what each field means. */
export interface Step {
  send?: string | string[];
  sendHex?: string | string[];
  everyByte?: boolean;
  expect?: string;
  expectHex?: string;
  orExpect?: string | string[];
  expectStats?: Record<string, 'int' | 'float' | 'yesno' | 'text'>;
  closes?: boolean;
  conn?: number;
  wait?: number;
  note?: string;
}
export interface Case {
  name: string;
  /** Each send is a datagram. */
  transport?: 'udp';
  steps: Step[];
  start?: string[];
  end?: boolean;
}
export interface Transcript {
  server: string;
  start: string[];
  files?: Record<string, string>;
  cases: Case[];
}
/** What was wrong with the reply to a step. */
export interface Problem {
  expected: string;
  got: string;
  why: string;
}
export function playCase(
  host: string,
  port: number,
  file: Transcript,
  testCase: Case,
  as: '1.6.18' | undefined,
  report: (step: number, what: Step, problem: Problem | null) => void,
): Promise<void>;
export function expand(template: string, names: Map<string, bigint>, hex?: boolean): string;
export function matchTemplate(
  template: string,
  got: string,
  names: Map<string, bigint>,
  hex?: boolean,
): { ok: boolean; names: Map<string, bigint>; at: number };
export function show(bytes: string): string;
