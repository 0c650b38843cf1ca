// Stamps that let the compiler hold the order of the flows. A stamp has no bytes at run time: it is a promise made by
// the one file that owns the step, so a value without it does not reach the next step.

declare const verified: unique symbol

/**
 * An envelope whose form and both signatures were proved: made only in trust/envelope.ts. A proof of equivocation whose
 * two heads were: in flows/accept.ts.
 */
export type Verified<E> = E & { readonly [verified]: true }
