// What `npm start` gives to `serve`: a directory for the data, and a database in it, where none is named.

/**
 * The arguments of `serve`, of those behind `npm start --`, which come last and so win: the last --data, or --no-data,
 * counts. A configuration says itself where data and database are.
 */
export function startArguments(args, { CAIRN_CONFIG, CAIRN_DATA, CAIRN_STORE } = process.env) {
  const isGiven = (name) => args.some((arg) => arg === name || arg.startsWith(`${name}=`));
  if (isGiven('--config') || CAIRN_CONFIG || CAIRN_DATA) return args;
  const hasStore = isGiven('--store') || isGiven('--no-data') || CAIRN_STORE;
  return ['--data', './cairn-data', ...(hasStore ? [] : ['--store', 'lmdb:']), ...args];
}
