/** `cairn-cache/testing`: tests that a backend has to pass, for any test runner. */
export { type BackendCase, type BackendHarness, backendCases } from './backend-cases.ts';
