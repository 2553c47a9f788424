/** The methods of Cache, for the tests of its public API: it inherits most of them. */
export { membersOf } from '../../src/receiver.ts';
