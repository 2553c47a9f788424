'use strict';
// What `require('cairn-cache')` gives: the package itself is an ES module. Loaded by Node's own require, past that of a
// test runner: Jest's loads no ES modules, and from 30.5 on its `process.getBuiltinModule` leads back to it. The
// process of the main context is Node's.
const { getBuiltinModule } = require('node:vm').runInThisContext('process');
module.exports = getBuiltinModule('node:module').createRequire(__filename)('./dist/index.js');
