/** Rules per prefix of keys: what reaches the database, and where. */
export { RULES_MAX, type Rule } from './rule.ts';
export { RuleSet } from './rule-set.ts';
