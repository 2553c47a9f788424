// The recorded process: its argument is the options as JSON, its output the operations that it has asked for.

import { Writer, type WriterOptions } from './writer.ts';

console.log(JSON.stringify(new Writer(JSON.parse(process.argv[2]!) as WriterOptions).run()));
