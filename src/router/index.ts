/** The router of the promised verbs: carries requests to the threads of their lanes, and answers back. */
export type { Batch, Call, Failure } from './lane.ts';
export { laneCountOf, Router, type RouterCounts, type RouterOptions } from './router.ts';
