/**
 * `cairn serve` for `cairn torture`: a process that is killed when its standard input ends, which is when the torture
 * has ended, however that was.
 */
process.stdin.on('close', () => process.kill(process.pid, 'SIGKILL'));
process.stdin.resume();
// It is no reason to go on.
(process.stdin as NodeJS.ReadStream & { unref(): void }).unref();
await import('./main.ts');
