// Stamps that let the compiler hold the order of the flows. A stamp has no bytes at run time: it is a promise made by
// the one file that owns the step, so a value without it does not reach the next step.

declare const verified: unique symbol

/** An envelope whose form and both signatures were proved. Made only in trust/envelope.ts. */
export type Verified<E> = E & { readonly [verified]: true }
