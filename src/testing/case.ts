import type { BackendLevel } from '../backend/index.ts';
import type { BackendHarness, Subject } from './harness.ts';

/** One case as its file writes it. */
export interface CaseText {
  readonly name: string;
  /** Backends of which level it is for. Undefined: all. */
  readonly level?: BackendLevel;
  body(tools: CaseTools): Promise<void>;
}

export interface CaseTools {
  readonly harness: BackendHarness;
  /** A subject whose backend is open, and closed when the case ends. */
  open(lane?: number, laneCount?: number): Promise<Subject>;
  readonly seed: number;
}
