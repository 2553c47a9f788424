/** What a server under fire is started with. */
import type { Random } from './random.ts';

/** Flags of `cairn serve`, drawn for each life. */
export function drawSettings(random: Random): readonly string[] {
  // In the smallest one not all entries have room: what is not in the database comes from the log.
  const memory = random.pick([64, 16, 4, 4]);
  return [
    ...['-l', '127.0.0.1', '-p', '-1'],
    ...['--sync', random.pick(['always', 'always', '10ms', 'none'])],
    ...['--write-delay', random.pick(['0', '5ms', '50ms', '300ms'])],
    ...['--write-rows', random.pick(['1', '10', '1000'])],
    ...['--segment-size', random.pick(['1mb', '4mb'])],
    ...['-m', `${memory}`],
    // Another number of them each time: the cursors of the last ones become theirs. Each needs 4 MiB.
    ...['--write-lanes', `${random.pick([1, 2, 4, 8].filter((lanes) => lanes * 4 <= memory))}`],
  ];
}

/** Variables that are no options of a server. */
const KEPT = /^CAIRN_(NATIVE_PATH|TEST_.*)$/;

/** These variables, and no other that is an option of a server. */
export function environmentOf(own: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const options = Object.keys(process.env).filter((name) => name.startsWith('CAIRN_') && !KEPT.test(name));
  return { ...Object.fromEntries(options.map((name) => [name, undefined])), ...own };
}
