/** Campaigns against a database of the user's. */
export { stoppedBy } from './commands.ts';
export type { CampaignEnd } from './run.ts';
export { checkFolder, runCampaigns, wrongIn } from './run.ts';
export { storesOf } from './stores.ts';
export { lineOf, type Totals, tableOf } from './totals.ts';
