/** A file that is not decoded, and why: the classes of FORMAT.md section 2.1, by name. */
export class CodecError extends Error {
  /** @param {string} name class of the error @param {string} message */
  constructor(name, message) {
    super(message);
    this.name = name;
  }
}

/** Throw unless something is right. */
export function check(isRight, name, message) {
  if (!isRight) throw new CodecError(name, message);
}
