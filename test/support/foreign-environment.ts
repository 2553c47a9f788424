// The environment for programs that others wrote.

/** Without what a check preloads into ours: a sanitizer is not for other people's programs. */
export function foreignEnvironment(): NodeJS.ProcessEnv {
  const { LD_PRELOAD: _ours, ...env } = process.env;
  return env;
}
