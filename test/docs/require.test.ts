// `require('cairn-cache')` works where a test runner has put its own module system in place of Node's, as Jest does.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { compileFunction, createContext } from 'node:vm';
import { expect, test } from 'vitest';

const file = fileURLToPath(new URL('../../index.cjs', import.meta.url));

test("require gives the package in a context whose process and module system are not Node's", () => {
  const foreign = () => {
    throw new SyntaxError('Cannot use import statement outside a module');
  };
  const process = { getBuiltinModule: () => ({ createRequire: () => foreign }) };
  const require = (name: string) =>
    name === 'node:module' ? { createRequire: () => foreign } : createRequire(file)(name);
  const module = { exports: {} as Record<string, unknown> };
  const load = compileFunction(readFileSync(file, 'utf8'), ['module', 'require', '__filename', 'process'], {
    parsingContext: createContext({}),
  });
  load(module, require, file, process);
  expect(Object.keys(module.exports)).toContain('Cache');
});
