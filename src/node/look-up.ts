/** Where guest bytes are; the tables needed for the answer are read into memory. */
import type { Io } from '../base/io.ts';
import type { Extent, ImageDriver } from '../formats/driver.ts';

/** The answer of `ImageDriver.look`, after waiting for the tables it needs. */
export function* lookUp(driver: ImageDriver, offset: number, length: number): Io<Extent> {
  for (;;) {
    const extent = driver.look(offset, length);
    if (extent) return extent;
    if (!driver.load) throw new Error(`tabdisk: ${driver.format} neither answers nor loads`);
    yield* driver.load(offset, length);
  }
}
