/**
 * The Web Awesome components that the page uses, one import each, and their icons: every library resolves to the page's own
 * sprite, so no component ever asks another server for a picture.
 */
import '@awesome.me/webawesome/dist/components/badge/badge.js';
import '@awesome.me/webawesome/dist/components/button/button.js';
import '@awesome.me/webawesome/dist/components/callout/callout.js';
import '@awesome.me/webawesome/dist/components/checkbox/checkbox.js';
import '@awesome.me/webawesome/dist/components/details/details.js';
import '@awesome.me/webawesome/dist/components/dialog/dialog.js';
import '@awesome.me/webawesome/dist/components/dropdown/dropdown.js';
import '@awesome.me/webawesome/dist/components/dropdown-item/dropdown-item.js';
import '@awesome.me/webawesome/dist/components/input/input.js';
import '@awesome.me/webawesome/dist/components/option/option.js';
import '@awesome.me/webawesome/dist/components/progress-bar/progress-bar.js';
import '@awesome.me/webawesome/dist/components/select/select.js';
import '@awesome.me/webawesome/dist/components/spinner/spinner.js';
import '@awesome.me/webawesome/dist/components/tab-group/tab-group.js';
import '@awesome.me/webawesome/dist/components/tab-panel/tab-panel.js';
import '@awesome.me/webawesome/dist/components/tab/tab.js';
import { registerIconLibrary } from '@awesome.me/webawesome/dist/components/icon/library.js';
import { iconAddress } from './dom.ts';

/** Without the sprite's view box an icon would be as wide as pictures of unknown size, 300 pixels, and would cover other controls. */
const fit = (svg: SVGElement): void => svg.setAttribute('viewBox', '0 0 24 24');

for (const library of ['default', 'system']) {
  registerIconLibrary(library, { resolver: (name) => iconAddress(name), spriteSheet: true, mutator: fit });
}
