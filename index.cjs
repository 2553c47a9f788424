'use strict';
// What `require('cairn-cache')` gives: the package itself is an ES module. Loaded by Node's own require, past that of a
// test runner: Jest's loads no ES modules.
module.exports = process.getBuiltinModule('node:module').createRequire(__filename)('./dist/index.js');
