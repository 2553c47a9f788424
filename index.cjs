'use strict';
// What `require('cairn-cache')` gives: the package itself is an ES module. It is loaded by Node's own require, whatever
// has replaced `require` and `process` here: Jest's load no ES modules. Code that runs in Node's first context sees
// Node's own.
const ours = process.getBuiltinModule('node:vm').runInThisContext('process');
module.exports = ours.getBuiltinModule('node:module').createRequire(__filename)('./dist/index.js');
