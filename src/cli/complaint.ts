/** The error that ends a command of `io` that cannot go on. */

/** Ends a command: the text goes to standard output, as qemu-io prints its complaints. */
export class Complaint extends Error {}
