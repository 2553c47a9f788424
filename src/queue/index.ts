/** The queue of the promised verbs: an Admission in front, a Fifo in every lane. */
export { Admission, type AdmissionBounds } from './admission.ts';
export { Fifo } from './fifo.ts';
