/** Why a change cannot become a row of a table: it becomes a dead letter, with this error. */
export class Misfit extends Error {
  override readonly name = 'Misfit';
}
