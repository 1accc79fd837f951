/** uPlot.esm.js, laid beside the page by scripts/prepare.js. */
import uPlot from 'uplot';
export default uPlot;
