/** Rules per prefix of keys: what reaches the database, and where. */
export { type Cell, type Column, type ColumnKind, isInteger } from './columns.ts';
export { Misfit } from './misfit.ts';
export { type OwnTableRule, type OwnValueRule, RULES_MAX, type Rule } from './rule.ts';
export { RuleSet } from './rule-set.ts';
export { DEFAULT_STORE, rulesOfStore, storeOf } from './stores.ts';
export { type FoundColumn, type FoundTable, planTable, type TablePlan } from './table-plan.ts';
export { type EntryValue, type ReadCell, TableRows } from './table-rows.ts';
